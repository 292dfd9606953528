"use strict";
// The page works without this. With it, figures move in place and a new list shows itself.
(() => {
  const EVENTS = "/events";
  const RETRY_MS = 5000;
  const REFRESH_MS = 3000; // at most so often where only the shape of the figures has changed
  const NOTICE_MS = 8000;
  const pulse = document.querySelector("[data-pulse]");
  const notice = document.querySelector("[data-notice]");
  let source = null;
  let isLost = false;
  let refreshed = 0;
  let refreshing = null;
  let hiding = 0;

  const number = (value) =>
    value === null || value === undefined
      ? "–"
      : value.toLocaleString("en-US", { minimumFractionDigits: value % 1 ? 1 : 0, maximumFractionDigits: value % 1 ? 1 : 0 });
  const moment = (at) => (at ? at.slice(0, 19).replace("T", " ") : "–");

  const say = (text) => {
    clearTimeout(hiding);
    notice.textContent = text;
    if (text && !isLost) hiding = setTimeout(() => say(""), NOTICE_MS);
  };

  const put = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };

  const shown = (figures) => {
    const found = new Map([["at", moment(figures.at)]]);
    if (figures.last_run) found.set("last_run", moment(figures.last_run));
    for (const name of ["sessions", "tracks"]) {
      const topic = figures[name];
      if (!topic) continue;
      for (const one of topic.partitions) {
        found.set(`${name}.${one.partition}.next_offset`, number(one.next_offset));
        found.set(`${name}.${one.partition}.lag`, number(one.lag));
        if (one.stream_time) found.set(`${name}.${one.partition}.stream_time`, moment(one.stream_time));
      }
      for (const [outcome, n] of Object.entries(topic.tallies)) found.set(`${name}.tallies.${outcome}`, number(n));
    }
    if (figures.sessions) {
      const parts = figures.sessions.partitions;
      const lags = parts.map((one) => one.lag);
      found.set("sessions.events_per_s", number(figures.sessions.events_per_s));
      found.set("sessions.lag", lags.includes(null) ? "–" : number(lags.reduce((sum, lag) => sum + lag, 0)));
      found.set("sessions.stream_time", moment(parts.map((one) => one.stream_time || "").sort().pop()));
    }
    return found;
  };

  const show = (figures) => {
    const found = shown(figures);
    const places = document.querySelectorAll("[data-figure]");
    if (!places.length) return;
    const known = new Set();
    for (const place of places) {
      known.add(place.dataset.figure);
      if (found.has(place.dataset.figure)) put(place, found.get(place.dataset.figure));
    }
    let hasTurned = false;
    for (const place of document.querySelectorAll("[data-reach]")) {
      const reach = figures[place.dataset.reach];
      const state = place.querySelector("[data-reach-state]");
      hasTurned ||= place.classList.contains("away") === reach.ok;
      place.classList.toggle("away", !reach.ok);
      put(state, reach.ok ? state.dataset.yes : state.dataset.no);
      put(place.querySelector("[data-reach-since]"), moment(reach.since));
      put(place.querySelector("[data-reach-reason]"), reach.reason);
    }
    const isNew = [...found.keys()].some((name) => !known.has(name));
    if (hasTurned || (isNew && Date.now() > refreshed + REFRESH_MS)) refresh();
  };

  const keyOf = (element) =>
    element && element !== document.body ? [element.id, element.getAttribute("href"), element.textContent].join("|") : "";

  // The main part as it is now; what was focused, opened and scrolled to stays so.
  const swap = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const from = fresh.querySelector("main");
    const main = document.querySelector("main");
    if (!from) return;
    const focused = main.contains(document.activeElement) ? keyOf(document.activeElement) : "";
    const open = [...main.querySelectorAll("details")].map((one) => one.open);
    const { scrollX, scrollY } = window;
    from.querySelectorAll("details").forEach((one, n) => { one.open = Boolean(open[n]); });
    main.replaceChildren(...from.childNodes);
    document.title = fresh.title;
    if (focused) {
      const same = [...main.querySelectorAll("a, button, select, summary, [tabindex]")].find((one) => keyOf(one) === focused);
      (same || main).focus({ preventScroll: true });
    }
    window.scrollTo(scrollX, scrollY);
  };

  const refresh = () => {
    refreshed = Date.now();
    refreshing ??= fetch(location.pathname + location.search, { headers: { accept: "text/html" } })
      .then((answer) => (answer.ok ? answer.text().then(swap) : undefined))
      .catch(() => undefined) // the stream tells of it too
      .finally(() => { refreshing = null; });
    return refreshing;
  };

  const lost = () => {
    if (isLost) return;
    isLost = true;
    pulse.classList.add("lost");
    put(pulse.querySelector("[data-pulse-text]"), "not connected");
    say("The connection is lost, so this page stands still. Trying again.");
  };

  const found = () => {
    pulse.hidden = false;
    if (!isLost) return;
    isLost = false;
    pulse.classList.remove("lost");
    put(pulse.querySelector("[data-pulse-text]"), "live");
    refresh().then(() => say("Connected again."));
  };

  const listen = () => {
    source = new EventSource(EVENTS);
    source.addEventListener("open", found);
    source.addEventListener("error", () => {
      lost();
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS);
    });
    source.addEventListener("figures", (event) => show(JSON.parse(event.data)));
    source.addEventListener("playlist", (event) => {
      const list = JSON.parse(event.data);
      refresh().then(() => say(`New: the list of ${list.group} for ${list.week}.`));
    });
  };
  listen();
})();
