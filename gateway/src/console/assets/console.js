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

// As the markup says it: a form's own `id` is hidden by a field of that name.
const idOf = (node) => (node.nodeType === Node.ELEMENT_NODE && node.getAttribute("id")) || "";

function children(from, to) {
  let at = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const id = idOf(wanted);
    const known = id && [...from.children].find((child) => idOf(child) === id);
    if (known && known !== at) from.insertBefore(known, at), (at = known);
    if (!at || id !== idOf(at)) {
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

// Whose session has ended is told so, with the way back in; nothing on the page is of now any more.
function ended() {
  document.getElementById("ended").hidden = false;
  document.body.classList.add("stale");
}

function follow(path) {
  const lost = document.getElementById("lost");
  const pause = document.getElementById("pause");
  const ids = ["status", "regions", "region", "news", "audit", "shifts"];
  let source = null;
  let wait = 0;
  let again = 0;
  let silence = 0;
  // Something comes every few seconds. A connection that says nothing is lost, whatever the browser thinks.
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => {
      stop();
      lost.textContent = lost.dataset.text;
      document.body.classList.add("stale");
      again = setTimeout(begin, 1000);
    }, 30000);
  };
  const heard = () => {
    document.body.classList.remove("stale");
    lost.textContent = "";
    listen();
  };
  const stop = () => {
    clearTimeout(silence);
    clearTimeout(again);
    if (source) source.close();
    source = null;
  };
  // Refused, not lost. Either the session has ended, or there are too many pages: then later, and rarer.
  const refused = async () => {
    const inside = await fetch("/console/session").then((answer) => answer.status !== 401, () => true);
    if (!source) return;
    stop();
    if (!inside) return void ended();
    lost.textContent = lost.dataset.full;
    wait = Math.min(60000, wait * 2 || 5000);
    again = setTimeout(begin, wait * (0.75 + Math.random() / 2));
  };
  const begin = () => {
    source = new EventSource(path);
    listen();
    source.onopen = () => {
      wait = 0;
    };
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) return void refused();
      lost.textContent = lost.dataset.text;
    };
    source.addEventListener("ended", () => {
      stop();
      ended();
    });
    source.addEventListener("alive", heard);
    for (const id of ids)
      source.addEventListener(id, (event) => {
        heard();
        show(id, event.data);
      });
  };
  begin();
  pause.hidden = false;
  let paused = false;
  // Nobody looks at a page in the background, and a browser has few connections.
  document.addEventListener("visibilitychange", () => {
    if (paused || !document.getElementById("ended").hidden) return;
    stop();
    if (!document.hidden) begin();
  });
  pause.onclick = () => {
    paused = !paused;
    if (paused) stop();
    else begin();
    pause.textContent = paused ? pause.dataset.off : pause.dataset.on;
  };
}

// The preview follows the form. What is shown for another form cannot be applied meanwhile.
function plan(form) {
  const shown = document.getElementById("preview");
  const said = document.getElementById("preview-said");
  let timer = 0;
  let asking = null;
  let verdict = "";
  const ask = async (quietly) => {
    if (asking) asking.abort();
    asking = new AbortController();
    const own = asking;
    const query = new URLSearchParams(new FormData(form));
    try {
      const answer = await fetch(`${form.dataset.preview}?${query}`, { signal: own.signal });
      if (answer.status === 401) return void ended();
      show("preview", await answer.text());
      const judged = shown.querySelector(".verdict, .alert");
      const word = judged ? judged.dataset.verdict || judged.dataset.reason : "";
      if (!quietly || word !== verdict) said.textContent = judged ? judged.textContent : "";
      verdict = word;
    } catch (error) {
      if (own.signal.aborted) return;
      shown.textContent = shown.dataset.failed;
    }
    shown.removeAttribute("aria-busy");
  };
  const later = () => {
    if (asking) asking.abort();
    shown.setAttribute("aria-busy", "true");
    for (const button of shown.querySelectorAll("button")) button.disabled = true;
    clearTimeout(timer);
    timer = setTimeout(ask, 250);
  };
  // Calls change while nobody changes the form; a screen reader is told when that changes the verdict.
  setInterval(() => {
    const settled = !document.hidden && !shown.hasAttribute("aria-busy");
    if (settled && shown.querySelector("[data-verdict]")) ask(true);
  }, 10000);
  // Nobody moves calls from a node to itself.
  const apart = () => {
    for (const to of form.querySelectorAll('input[name="to"]')) {
      to.disabled = to.value === form.elements.from.value;
      if (to.disabled) to.checked = false;
    }
  };
  apart();
  form.addEventListener("input", (event) => {
    apart();
    const told = document.getElementById(`${event.target.id}-told`);
    if (told) told.textContent = `${event.target.value} %`;
    if (!event.target.dataset.reload) later();
  });
  form.addEventListener("change", (event) => {
    const { reload } = event.target.dataset;
    if (reload) location.assign(reload + encodeURIComponent(event.target.value));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    later();
  });
}

// A token in the fragment never reaches a server's log, and does not stay in the address bar.
const door = document.getElementById("sign-in");
if (door && location.hash.length > 1) {
  door.elements.token.value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  door.requestSubmit();
}
if (document.body.dataset.events) follow(document.body.dataset.events);
const order = document.querySelector("form[data-preview]");
if (order) plan(order);
