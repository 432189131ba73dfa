// Keeps a page up to date; every page works without it.
"use strict";

// Makes `from` like `to` without replacing what is the same: focus and selection stay where they are.
function morph(from, to) {
  if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName) return void from.replaceWith(to);
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  for (const { name } of [...from.attributes]) if (name !== "open" && !to.hasAttribute(name)) from.removeAttribute(name);
  for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  children(from, to);
}

function children(from, to) {
  let at = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const known = wanted.id && [...from.children].find((child) => child.id === wanted.id);
    if (known && known !== at) from.insertBefore(known, at), (at = known);
    if (!at || (wanted.id || "") !== (at.id || "")) {
      from.insertBefore(wanted, at);
      continue;
    }
    const next = at.nextSibling;
    morph(at, wanted);
    at = next;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function show(id, markup) {
  const part = document.getElementById(id);
  if (part) children(part, new DOMParser().parseFromString(markup, "text/html").body);
}

function follow(path) {
  const lost = document.getElementById("lost");
  const pause = document.getElementById("pause");
  const ids = ["status", "regions", "region", "news", "audit", "shifts"];
  let source = null;
  const begin = () => {
    source = new EventSource(path);
    source.onopen = () => { lost.textContent = ""; };
    source.onerror = () => {
      lost.textContent = lost.dataset.text;
      // Refused, not lost: the session has ended, or there are too many pages.
      if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
    };
    source.addEventListener("ended", () => location.assign("/console/sign-in?ended"));
    for (const id of ids) source.addEventListener(id, (event) => show(id, event.data));
  };
  begin();
  pause.hidden = false;
  pause.onclick = () => {
    const running = source !== null;
    if (running) source.close(), (source = null);
    else begin();
    pause.textContent = running ? pause.dataset.off : pause.dataset.on;
  };
}

// A token in the fragment never reaches a server's log, and does not stay in the address bar.
const door = document.getElementById("sign-in");
if (door && location.hash.length > 1) {
  door.elements.token.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  door.requestSubmit();
}
if (document.body.dataset.events) follow(document.body.dataset.events);
