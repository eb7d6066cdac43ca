// What happens: the last of it at the foot of the page, all of it when that is opened, and of one torrent in its detail.

import { $, ask, clock, keep, made } from "./words.js";
import { tell } from "./store.js";

const KEPT = 1000, SHOWN = 300;
export const recent = [];
let number = 0;

const HIDDEN = new Set(["event", "level", "at", "info_hash", "name", "key", "event_id"]);
const written = (value) => {
  if (typeof value === "number") return String(Math.round(value * 100) / 100);
  return typeof value === "object" ? JSON.stringify(value) : value;
};
export function eventLine(event, named) {
  const item = made("li", event.level ?? "info");
  const rest = Object.entries(event).filter(([key, value]) => !HIDDEN.has(key) && value !== null && value !== "");
  item.append(
    made("time", "", clock(event.at || Date.now() / 1000)), made("span", "event", event.event),
    made("bdi", "whose", named ? event.name ?? "" : ""),
    made("bdi", "dim", rest.map(([key, value]) => `${key}=${written(value)}`).join("  ")),
  );
  return item;
}

function show() {
  const last = recent.at(-1);
  $("latest").replaceChildren(...(last ? eventLine(last, true).childNodes : []));
  if (!$("told").open) return;
  keep($("events"), recent.slice(-SHOWN).reverse(), (event) => event.key, (event) => eventLine(event, true), () => {});
}
let showing = 0;
function showSoon() { showing ||= requestAnimationFrame(() => { showing = 0; show(); }); }

export function hear(event) {
  event.key = number += 1;
  recent.push(event);
  if (recent.length > KEPT) recent.shift();
  showSoon();
  tell("told", event);
}

// What was told before this page listened, or while it did not.
export async function catchUp() {
  try {
    const since = recent.at(-1)?.at ?? 0, { events } = await ask("/api/v1/log");
    // meanwhile the stream told of the latest
    const same = (event) => JSON.stringify({ ...event, key: undefined }), heard = new Set(recent.map(same));
    const missed = events.filter((event) => event.at > since && !heard.has(same(event)));
    for (const event of missed) event.key = number += 1;
    recent.push(...missed);
    recent.sort((one, other) => one.at - other.at);
    recent.splice(0, Math.max(0, recent.length - KEPT));
    for (const event of missed) tell("told", event);
    showSoon();
  } catch { /* the stream says that bittern does not answer */ }
}

$("told").addEventListener("toggle", show);
