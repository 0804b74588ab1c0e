// The address names the session, so that a reload, a bookmark or another tab comes back to it.
(() => {
  let shown = "";
  const follow = () => {
    const name = document.querySelector("#session .md")?.textContent.trim() ?? "";
    if (name === "" || name === shown) return;
    // on a phone the list of conversations would hide the one that is open
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

// Gradio takes the HTML of an answer for its text: in the button that copies it, and where a screen
// reader is told what it says.
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
    const made = document.createElement("button");
    made.textContent = "Copy";
    made.addEventListener("click", () => write(pre.querySelector("code").innerText));
    return made;
  };
  document.addEventListener(
    "click",
    (event) => {
      const row = event.target.closest?.("#chat .message-buttons-left")?.previousElementSibling;
      if (!row) return;
      const said = [...row.querySelectorAll("[data-testid=bot] > .message-content .md > div")];
      write(said.map((each) => each.innerText).join("\n\n"));
      event.stopImmediatePropagation();
    },
    true,
  );
  new MutationObserver(() => {
    for (const each of document.querySelectorAll('#chat [aria-label*="<div"]'))
      each.removeAttribute("aria-label");
    for (const pre of document.querySelectorAll("#chat .prose pre:not(:has(> button))"))
      pre.append(button(pre));
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
