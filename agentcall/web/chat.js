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
