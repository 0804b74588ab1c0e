"""Commands whose arguments are known to only read.

Rules:
1. Anything that is not known to only read is refused. The table has programs and subcommands (`git
   log`) with the options that neither write nor run anything. Each word is checked separately.
2. Long options must have their whole name: `--out` for `--output` is refused.
3. A word that does not begin with `-` is an operand, such as a file to read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SIGNATURE_FORMAT = re.compile(r"%[-+ ]?G|\(signature")
"""A format for which git runs gpg."""
_NUMBER = re.compile(r"-\d+")


@dataclass(frozen=True, slots=True)
class ReadOnlyCommand:
    """The options of a command that only read.

    flags: option letters.
    value_flags: option letters after which the rest of the word is a value.
    long_options: names of long options, with or without a value.
    whole_words: options of `find`, which are accepted after `--`, too.
    max_operands: the largest number of operands.
    has_formats: whether `+` begins a format (`date`).
    added_arguments: options inserted before the arguments.
    """

    flags: str = ""
    value_flags: str = ""
    long_options: frozenset[str] = frozenset()
    whole_words: frozenset[str] = frozenset()
    max_operands: int | None = None
    has_formats: bool = False
    added_arguments: tuple[str, ...] = ()

    def find_refused(self, arguments: Sequence[str]) -> str | None:
        """Return the first argument that is not known to only read, or None."""
        operands = 0
        has_ended = False  # whether `--` has ended the options
        for word in arguments:
            if not has_ended and word.startswith("-") and word != "-":
                has_ended = word == "--" and not self.whole_words
                if not has_ended and not self._is_read_only(word):
                    return word
            elif not (self.has_formats and word.startswith("+")):
                operands += 1
                if self.max_operands is not None and operands > self.max_operands:
                    return word
        return None

    def _is_read_only(self, word: str) -> bool:
        if word in self.whole_words:
            return True
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            return name in self.long_options and not _SIGNATURE_FORMAT.search(value)
        if self.whole_words:
            return False
        if _NUMBER.fullmatch(word) and "0" in self.flags:
            return True
        for letter in word[1:]:
            if letter in self.value_flags:
                return True
            if letter not in self.flags:
                return False
        return True


class _HarmlessCommand(ReadOnlyCommand):
    """A program that can only read and print, whatever its arguments."""

    def find_refused(self, arguments: Sequence[str]) -> str | None:
        return None


def _options(*texts: str) -> frozenset[str]:
    return frozenset(" ".join(texts).split())


_DIFF_OPTIONS = (
    "stat shortstat numstat name-only name-status patch no-patch raw summary dirstat unified color "
    "no-color word-diff color-words find-renames find-copies no-renames ignore-space-change "
    "ignore-all-space ignore-blank-lines ignore-space-at-eol minimal patience histogram anchored "
    "function-context diff-filter text abbrev full-index compact-summary pickaxe-all pickaxe-regex "
    "cc no-prefix relative exit-code quiet inter-hunk-context indent-heuristic diff-algorithm "
    "patch-with-stat check"
)
_COMMIT_OPTIONS = (
    "oneline graph decorate no-decorate decorate-refs all branches tags remotes max-count skip "
    "since after until before author committer grep all-match invert-grep regexp-ignore-case "
    "extended-regexp fixed-strings perl-regexp merges no-merges min-parents max-parents "
    "first-parent reverse follow pretty format abbrev-commit no-abbrev-commit date relative-date "
    "full-history topo-order date-order author-date-order left-right cherry-pick cherry-mark "
    "ancestry-path simplify-merges source parents children encoding no-notes not count"
)
_NO_HELPERS = ("--no-ext-diff", "--no-textconv")
_LOG_COMMAND = ReadOnlyCommand(
    "0psuiEFPrcmtz",
    "nSGUMC",
    _options(_COMMIT_OPTIONS, _DIFF_OPTIONS),
    added_arguments=_NO_HELPERS,
)
_CHECKSUM_COMMAND = ReadOnlyCommand(
    "btwcz", "", _options("binary text tag check quiet status strict warn ignore-missing")
)

_COMMANDS: Mapping[tuple[str, ...], ReadOnlyCommand] = {
    ("git", "log"): _LOG_COMMAND,
    ("git", "show"): _LOG_COMMAND,
    ("git", "stash", "list"): _LOG_COMMAND,
    ("git", "diff"): ReadOnlyCommand(
        "0psubwRaqz",
        "SGUMC",
        _options(_DIFF_OPTIONS, "cached staged merge-base base ours theirs"),
        added_arguments=_NO_HELPERS,
    ),
    ("git", "status"): ReadOnlyCommand(
        "sbvz",
        "u",
        _options("short branch long verbose porcelain untracked-files ignored show-stash "
            "ahead-behind "
              "no-ahead-behind renames no-renames ignore-submodules"),
    ),
    ("git", "blame"): ReadOnlyCommand(
        "lsfnpwect", "LMC",
        _options("date abbrev porcelain line-porcelain show-email show-name show-number since "
            "root"),
        added_arguments=("--no-textconv",),
    ),
    ("git", "branch"): ReadOnlyCommand(
        "arvli", "",
        _options("all remotes verbose list show-current contains no-contains merged no-merged sort "
              "column no-column points-at format color no-color ignore-case"),
        max_operands=0,
    ),
    ("git", "tag"): ReadOnlyCommand(
        "li", "n",
        _options("list contains no-contains merged no-merged sort points-at format column "
              "ignore-case"),
        max_operands=0,
    ),
    ("git", "remote"): ReadOnlyCommand("v", "", _options("verbose"), max_operands=0),
    ("git", "ls-files"): ReadOnlyCommand(
        "cdmoiskutvz", "x",
        _options("cached deleted modified others ignored stage unmerged killed exclude-standard "
              "exclude full-name error-unmatch eol"),
    ),
    ("git", "ls-tree"): ReadOnlyCommand(
        "drtlz", "", _options("name-only name-status long full-name full-tree abbrev object-only")
    ),
    ("git", "rev-parse"): ReadOnlyCommand(
        "q", "",
        _options("verify quiet short abbrev-ref symbolic symbolic-full-name show-toplevel git-dir "
              "is-inside-work-tree is-bare-repository show-prefix show-cdup all branches tags"),
    ),
    ("git", "rev-list"): ReadOnlyCommand("0iEFP", "n", _options(_COMMIT_OPTIONS, "objects header")),
    ("git", "shortlog"): ReadOnlyCommand("0nsec", "w", _options(_COMMIT_OPTIONS,
        "numbered summary email group")),
    ("git", "describe"): ReadOnlyCommand(
        "", "", _options("all tags contains abbrev candidates exact-match match exclude long "
        "always "
                      "dirty broken first-parent debug")
    ),
    ("git", "grep"): ReadOnlyCommand(
        "0iwvhHEGPFnlLzcpqaIW", "ABCem",
        _options("cached untracked ignore-case word-regexp invert-match full-name extended-regexp "
              "basic-regexp perl-regexp fixed-strings line-number column files-with-matches "
              "name-only files-without-match null count color no-color break heading show-function "
              "context after-context before-context function-context max-depth max-count and or "
              "not all-match quiet text recursive no-recursive threads only-matching"),
        added_arguments=("--no-textconv",),
    ),
    ("git", "merge-base"): ReadOnlyCommand("a", "", _options("all octopus independent "
        "is-ancestor fork-point")),
    ("git", "show-ref"): ReadOnlyCommand(
        "dsq", "", _options("head heads tags branches dereference hash verify abbrev quiet exists")
    ),
    ("git", "cat-file"): ReadOnlyCommand("tsep", "", _options("batch-check")),
    ("find",): ReadOnlyCommand(
        whole_words=_options("-name -iname -path -ipath -wholename -iwholename -regex -iregex "
            "-type -xtype "
                    "-size -mtime -mmin -atime -amin -ctime -cmin -newer -anewer -cnewer -newermt "
                    "-maxdepth -mindepth -depth -mount -xdev -empty -perm -user -group -uid -gid "
                    "-nouser -nogroup -links -inum -samefile -readable -writable -executable "
                    "-print -print0 -ls -prune -quit -not -and -or -a -o -true -false -follow "
                    "-daystart -regextype -H -L -P -lname -ilname -used -noleaf"),
    ),
    ("sort",): ReadOnlyCommand(
        "bdfghiMnRrVcCmsuz", "kt",
        _options("ignore-leading-blanks dictionary-order ignore-case general-numeric-sort "
              "human-numeric-sort ignore-nonprinting month-sort numeric-sort random-sort reverse "
              "version-sort sort check merge stable unique zero-terminated key field-separator"),
    ),
    ("uniq",): ReadOnlyCommand(
        "cdDiuz", "fsw",
        _options("count repeated all-repeated ignore-case unique zero-terminated skip-fields "
              "skip-chars check-chars group"),
        max_operands=1,
    ),
    ("diff",): ReadOnlyCommand(
        "qsrNibwBaeEZtTdyup0", "UCWxI",
        _options("brief report-identical-files recursive new-file ignore-case ignore-space-change "
              "ignore-all-space ignore-blank-lines text side-by-side unified context minimal color "
              "suppress-common-lines width exclude expand-tabs strip-trailing-cr normal"),
    ),
    ("rg",): ReadOnlyCommand(
        "0iSswxvcnNlLHIoFPUapqu", "ABCemgtTMd",
        _options("ignore-case smart-case case-sensitive word-regexp line-regexp invert-match count "
              "count-matches line-number no-line-number files-with-matches files-without-match "
              "with-filename no-filename only-matching fixed-strings pcre2 multiline text hidden "
              "no-ignore glob iglob type type-not type-list max-count max-depth max-filesize files "
              "color heading no-heading context after-context before-context regexp sort sortr "
              "json stats vimgrep column trim follow no-config replace passthru quiet"),
        added_arguments=("--no-config",),
    ),
    ("tree",): ReadOnlyCommand(
        "adfilxspugDFqNQrtcUvnACSJ", "LPI",
        _options("noreport dirsfirst du si prune charset filelimit timefmt filesfirst matchdirs "
              "ignore-case gitignore sort inodes device"),
    ),
    ("file",): ReadOnlyCommand(
        "bikLhnNprsv", "F",
        _options("brief mime mime-type mime-encoding dereference no-dereference separator "
            "extension"),
    ),
    ("date",): ReadOnlyCommand(
        "uRI", "d", _options("date utc universal iso-8601 rfc-3339 rfc-email reference"),
        max_operands=0,  # an operand would set the clock
        has_formats=True,
    ),
    **{(name,): _CHECKSUM_COMMAND for name in _options("md5sum sha1sum sha224sum sha256sum "
        "sha384sum sha512sum "
                                        "b2sum cksum")},
    **{(name,): _HarmlessCommand() for name in _options(
        "basename cal cat cmp column comm cut df dirname du echo egrep expand "
        "expr factor false fgrep fold free fmt grep groups head id join jq ls nl nproc "
        "numfmt od paste pathchk pr printenv printf ps pwd readlink realpath rev seq sleep stat "
        "sum tac tail test tr true uname unexpand uptime wc which who whoami"
    )},
}  # fmt: skip


def find_command(words: Sequence[str]) -> tuple[int, ReadOnlyCommand] | None:
    """Return the number of words that name a known command, and the command; None if unknown."""
    name = words[0].rpartition("/")[2]
    for count in (3, 2, 1):
        command = _COMMANDS.get((name, *words[1:count])) if len(words) >= count else None
        if command is not None:
            return count, command
    return None
