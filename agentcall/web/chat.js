// The address names the session, so that a reload, a bookmark or another tab comes back to it.
(() => {
  let shown = "";
  const follow = () => {
    const name = document.querySelector("#session .prose")?.textContent.trim() ?? "";
    if (name === "" || name === shown) return;
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
