// Keep the session's name in the address, so that a reload or a bookmark opens the same one.
(() => {
  let shown = "";
  const follow = () => {
    const name = document.querySelector("#session .md")?.textContent.trim() ?? "";
    if (name === "" || name === shown) return;
    // On a phone the sidebar would cover the conversation.
    if (shown === "" && window.innerWidth < 768)
      document.querySelector(".sidebar.open .toggle-button")?.click();
    shown = name;
    const address = new URL(window.location.href);
    address.searchParams.set("session", name);
    window.history.replaceState(window.history.state, "", address);
  };
  new MutationObserver(follow).observe(document.documentElement, {
    childList: true,
    subtree: true,
    characterData: true,
  });
})();

// Gradio takes the HTML of an answer for its text, in its copy button and in the aria-label for
// screen readers.
(() => {
  const write = (text) => {
    if (navigator.clipboard) return void navigator.clipboard.writeText(text);
    const box = document.createElement("textarea");
    box.value = text;
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  };
  const button = (pre) => {
    const copy = document.createElement("button");
    copy.textContent = "Copy";
    copy.addEventListener("click", () => write(pre.querySelector("code").innerText));
    return copy;
  };
  document.addEventListener(
    "click",
    (event) => {
      const row = event.target.closest?.("#chat .message-buttons-left")?.previousElementSibling;
      if (!row) return;
      const parts = [...row.querySelectorAll("[data-testid=bot] > .message-content .md > div")];
      write(parts.map((part) => part.innerText).join("\n\n"));
      event.stopImmediatePropagation();
    },
    true,
  );
  new MutationObserver(() => {
    for (const element of document.querySelectorAll('#chat [aria-label*="<div"]'))
      element.removeAttribute("aria-label");
    for (const pre of document.querySelectorAll("#chat .prose pre:not(:has(> button))"))
      pre.append(button(pre));
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
