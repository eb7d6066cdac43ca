// The page: what the stream tells goes to the list, the open torrent and the totals; and the keys.

import { $, ask, colour, pen, plain, rate, send, set, size, spark, toast } from "./words.js";
import { choose, chosen, remember, store, tell, torrents } from "./store.js";
import { arrange, arrangeSoon } from "./list.js";
import { close } from "./detail.js";
import { act, add, openAdding, room, show } from "./dialogs.js";
import { look as lookAtHooks } from "./hooks.js";
import { catchUp, hear } from "./log.js";
import { COMMON, makeForm } from "./forms.js";

const HISTORY = 60, SILENT_S = 20, AGAIN_MOST_S = 30;
const history = { down: [], up: [] };

// -- what comes in ----------------------------------------------------------------------------------------------------

function take(update) {
  if (update.anew) { torrents.clear(); tell("places"); }
  for (const torrent of update.torrents) {
    const before = torrents.get(torrent.info_hash);
    torrent.folded = torrent.name.toLowerCase();
    torrent.place = before?.place;
    if (!before || before.priority !== torrent.priority || before.rank !== torrent.rank) tell("places");
    remember(torrent, before);
    torrents.set(torrent.info_hash, torrent);
  }
  // who went while nobody listened is not among all of them
  const all = torrents.size === update.session.torrents;
  for (const hash of [...update.removed, ...(all ? [...chosen, store.open].filter((one) => one && !torrents.has(one)) : [])]) {
    torrents.delete(hash);
    tell("places");
    if (hash === store.open) close();
    if (chosen.has(hash)) choose([hash], false);
  }
  if (store.maySteer !== update.may_steer) {
    store.maySteer = update.may_steer;
    document.body.classList.toggle("steers", update.may_steer);
    for (const one of document.querySelectorAll("[data-steer]")) one.hidden = !update.may_steer;
    tell("steer");
  }
  totals(update.session);
  store.session = update.session;
  if (update.torrents.length || update.removed.length || update.anew) arrangeSoon();
}

let totalled = 0;
function totals(session) {
  const parts = [["downloading", session.downloading], ["complete", session.complete], ["held", session.held], ["offline", session.offline]];
  set($("count"), String(session.torrents));
  set($("states"), parts.filter(([, number]) => number).map(([word, number]) => `${number} ${word}`).join(", "));
  $("errors").parentElement.hidden = !session.errors;
  set($("errors"), String(session.errors));
  set($("peers"), String(session.peers));
  set($("down"), rate(session.download_rate) || "0");
  set($("up"), rate(session.upload_rate) || "0");
  const [least] = [...(session.volumes ?? [])].sort((a, b) => a.free_bytes - b.free_bytes);
  $("room").parentElement.hidden = !least;
  if (least) {
    set($("room"), room(least));
    $("room").parentElement.title = session.volumes.map((one) => `${plain(one.folders.join(", "))}: ${plain(one.away) || `${size(one.free_bytes)} of ${size(one.size_bytes)} free`}`).join("\n");
    $("room").classList.toggle("danger", session.held > 0 || Boolean(least.away));
  }
  // of thousands that come in fifty messages, one look
  if (performance.now() - totalled < 1000) return;
  totalled = performance.now();
  for (const way of ["down", "up"]) {
    history[way].push(session[`${way}load_rate`]);
    if (history[way].length > HISTORY) history[way].shift();
  }
  const most = Math.max(1, ...history.down, ...history.up);
  for (const [way, ink] of [["down", "mark"], ["up", "good"]]) spark(pen($(`${way}-line`), 72, 20), history[way], most, HISTORY, 72, 20, colour(ink));
  const { download_rate: down, upload_rate: up } = session;
  document.title = down || up ? `↓ ${rate(down) || "0"} ↑ ${rate(up) || "0"} – bittern` : "bittern";
}

// A stream that breaks off is taken up again by the browser; one that is refused, or falls silent, is by us.
let stream = null, heardAt = 0, pause = 1, waiting = 0;
function listen() {
  clearTimeout(waiting);
  waiting = 0;
  stream?.close();
  heardAt = performance.now();
  stream = new EventSource("/api/v1/updates");
  stream.addEventListener("open", () => {
    catchUp();
    if (!$("limits").open) lookAtLimits(); // somebody may be writing in it
    lookAtHooks();
  });
  stream.addEventListener("error", () => {
    lost();
    if (stream.readyState === EventSource.CLOSED) later();
  });
  stream.addEventListener("message", (message) => {
    heardAt = performance.now();
    pause = 1;
    set($("link"), "live");
    document.body.classList.remove("stale");
    take(JSON.parse(message.data));
  });
  stream.addEventListener("told", (message) => { heardAt = performance.now(); hear(JSON.parse(message.data)); });
}
function lost() {
  set($("link"), "bittern does not answer; trying again …");
  document.body.classList.add("stale");
}
function later() {
  waiting ||= setTimeout(listen, pause * 1000);
  pause = Math.min(pause * 2, AGAIN_MOST_S);
}
setInterval(() => {
  if (waiting || performance.now() - heardAt < SILENT_S * 1000) return;
  lost();
  later();
}, 2000);

// -- limits for all ---------------------------------------------------------------------------------------------------

let form = null;
async function lookAtLimits() {
  try { heedLimits(await ask("/api/v1/limits")); } catch { /* the stream says that bittern does not answer */ }
}
function heedLimits({ limits, overrides }) {
  form?.fill(limits, overrides);
  $("slow").setAttribute("aria-pressed", limits.alt_enabled);
  const said = [];
  if (limits.alt_enabled) said.push(`slow: down ${rate(limits.alt_download_rate) || "0"}, up ${rate(limits.alt_upload_rate) || "0"}`);
  else {
    if (limits.download_limited) said.push(`down ${rate(limits.download_rate) || "0"}`);
    if (limits.upload_limited) said.push(`up ${rate(limits.upload_rate) || "0"}`);
  }
  $("limited").parentElement.hidden = !said.length;
  set($("limited"), said.join(", "));
}
async function setLimits(changes) { heedLimits(await send("/api/v1/limits", "PATCH", changes)); }
$("slow").addEventListener("click", async () => {
  try { await setLimits({ alt_enabled: $("slow").getAttribute("aria-pressed") !== "true" }); } catch (error) { toast(error.message); }
});
$("open-limits").addEventListener("click", async () => {
  form = makeForm(COMMON, { may: store.maySteer, submit: setLimits });
  $("limits-form").replaceChildren(form);
  await lookAtLimits();
  show($("limits"));
});
setInterval(() => { if (!document.hidden && !$("limits").open && !waiting) lookAtLimits(); }, 15000);

// -- the keys ---------------------------------------------------------------------------------------------------------

const writes = () => /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName) && document.activeElement.type !== "checkbox";
const busy = () => Boolean(document.querySelector("dialog[open]"));
addEventListener("keydown", (event) => {
  if (busy() || event.defaultPrevented) return;
  if (event.key === "Escape") {
    if (document.activeElement === $("filter") && $("filter").value) { $("filter").value = ""; arrange(); }
    else if (!close()) choose([...chosen], false);
    event.preventDefault();
    return;
  }
  if (writes() || event.ctrlKey || event.metaKey || event.altKey) return;
  const does = { "/": () => $("filter").focus(), "?": () => show($("keys")), a: () => openAdding(), Delete: () => act("remove") }[event.key];
  if (!does) return;
  event.preventDefault();
  does();
});
$("filter").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "Enter") { $("list").focus(); event.preventDefault(); }
});
$("open-keys").addEventListener("click", () => show($("keys")));
$("add").addEventListener("click", () => openAdding());
$("unchoose").addEventListener("click", () => { choose([...chosen], false); $("list").focus(); });

// -- dropping and pasting ---------------------------------------------------------------------------------------------

let over = 0;
const brings = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
addEventListener("dragenter", (event) => { event.preventDefault(); over += 1; $("drop").hidden = !store.maySteer || !brings(event); });
addEventListener("dragleave", () => { over = Math.max(0, over - 1); if (!over) $("drop").hidden = true; });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  $("drop").hidden = true;
  const files = [...event.dataTransfer.files], text = event.dataTransfer.getData("text").trim();
  if (!store.maySteer) toast("This page is for looking only (web.access).");
  else if (files.length) add(files);
  else if (text.toLowerCase().startsWith("magnet:")) openAdding(text);
});
addEventListener("paste", (event) => {
  const text = event.clipboardData.getData("text").trim(), files = [...event.clipboardData.files];
  if (!store.maySteer || writes() || busy()) return;
  if (files.length) add(files);
  else if (text.toLowerCase().startsWith("magnet:")) openAdding(text);
});

arrange();
listen();
