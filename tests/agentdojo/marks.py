"""The marks of AgentDojo's 69 tools, by two rules that look at what a tool is for, not at attacks.

1. `read_only`: its purpose is to look: it gets, reads, searches, lists or checks. (That a mail is
   marked as read when it is, and that a web server sees the request, does not make it one that
   acts.) Everything else acts: it sends, creates, changes, deletes, shares, posts, reserves.
2. `untrusted`: its result has free text, names included, that another person than the user may have
   written: mails, messages, files, web pages, calendar entries, transactions, reviews, and the
   listings of hotels, restaurants and car rentals. Not: the user's own account, numbers, dates,
   and words of the service itself such as "deleted".
3. `egress`: its arguments leave for an address that they hold. Of the tools that read, that is the
   one which asks the server of any URL for a page.
"""

READS = "read_only"
STRANGERS = "untrusted"
LEAVES = "egress"

LOOKS = frozenset({READS})
LOOKS_AT_STRANGERS = frozenset({READS, STRANGERS})
LOOKS_ANYWHERE = frozenset({READS, STRANGERS, LEAVES})
ACTS = frozenset[str]()
ACTS_AND_SHOWS_STRANGERS = frozenset({STRANGERS})

MARKS: dict[str, frozenset[str]] = {
    # banking
    "get_iban": LOOKS,
    "get_balance": LOOKS,
    "get_user_info": LOOKS,
    "get_most_recent_transactions": LOOKS_AT_STRANGERS,
    "get_scheduled_transactions": LOOKS_AT_STRANGERS,
    "read_file": LOOKS_AT_STRANGERS,
    "send_money": ACTS,
    "schedule_transaction": ACTS,
    "update_scheduled_transaction": ACTS,
    "update_password": ACTS,
    "update_user_info": ACTS,
    # slack
    "get_channels": LOOKS_AT_STRANGERS,
    "get_users_in_channel": LOOKS_AT_STRANGERS,
    "read_channel_messages": LOOKS_AT_STRANGERS,
    "read_inbox": LOOKS_AT_STRANGERS,
    "get_webpage": LOOKS_ANYWHERE,
    "post_webpage": ACTS,
    "add_user_to_channel": ACTS,
    "invite_user_to_slack": ACTS,
    "remove_user_from_slack": ACTS,
    "send_direct_message": ACTS,
    "send_channel_message": ACTS,
    # workspace: mail
    "get_unread_emails": LOOKS_AT_STRANGERS,
    "get_received_emails": LOOKS_AT_STRANGERS,
    "get_sent_emails": LOOKS_AT_STRANGERS,
    "get_draft_emails": LOOKS_AT_STRANGERS,
    "search_emails": LOOKS_AT_STRANGERS,
    "search_contacts_by_name": LOOKS_AT_STRANGERS,
    "search_contacts_by_email": LOOKS_AT_STRANGERS,
    "send_email": ACTS,
    "delete_email": ACTS,
    # workspace: calendar
    "get_current_day": LOOKS,
    "search_calendar_events": LOOKS_AT_STRANGERS,
    "get_day_calendar_events": LOOKS_AT_STRANGERS,
    "create_calendar_event": ACTS,
    "cancel_calendar_event": ACTS,
    "reschedule_calendar_event": ACTS_AND_SHOWS_STRANGERS,
    "add_calendar_event_participants": ACTS_AND_SHOWS_STRANGERS,
    # workspace: files
    "list_files": LOOKS_AT_STRANGERS,
    "get_file_by_id": LOOKS_AT_STRANGERS,
    "search_files": LOOKS_AT_STRANGERS,
    "search_files_by_filename": LOOKS_AT_STRANGERS,
    "create_file": ACTS,
    "append_to_file": ACTS_AND_SHOWS_STRANGERS,
    "delete_file": ACTS_AND_SHOWS_STRANGERS,
    "share_file": ACTS_AND_SHOWS_STRANGERS,
    # travel
    "get_user_information": LOOKS,
    "get_all_hotels_in_city": LOOKS_AT_STRANGERS,
    "get_hotels_prices": LOOKS_AT_STRANGERS,
    "get_hotels_address": LOOKS_AT_STRANGERS,
    "get_rating_reviews_for_hotels": LOOKS_AT_STRANGERS,
    "get_all_restaurants_in_city": LOOKS_AT_STRANGERS,
    "get_cuisine_type_for_restaurants": LOOKS_AT_STRANGERS,
    "get_restaurants_address": LOOKS_AT_STRANGERS,
    "get_rating_reviews_for_restaurants": LOOKS_AT_STRANGERS,
    "get_dietary_restrictions_for_all_restaurants": LOOKS_AT_STRANGERS,
    "get_contact_information_for_restaurants": LOOKS_AT_STRANGERS,
    "get_price_for_restaurants": LOOKS_AT_STRANGERS,
    "check_restaurant_opening_hours": LOOKS_AT_STRANGERS,
    "get_all_car_rental_companies_in_city": LOOKS_AT_STRANGERS,
    "get_car_types_available": LOOKS_AT_STRANGERS,
    "get_rating_reviews_for_car_rental": LOOKS_AT_STRANGERS,
    "get_car_fuel_options": LOOKS_AT_STRANGERS,
    "get_car_rental_address": LOOKS_AT_STRANGERS,
    "get_car_price_per_day": LOOKS_AT_STRANGERS,
    "get_flight_information": LOOKS_AT_STRANGERS,
    "reserve_hotel": ACTS,
    "reserve_car_rental": ACTS,
    "reserve_restaurant": ACTS,
}
