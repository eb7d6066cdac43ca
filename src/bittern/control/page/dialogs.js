// What is asked before something is done: adding, moving, labelling, removing; and the keys.

import { $, ask, count, made, plain, send, set, toast } from "./words.js";
import { chosen, labelsOf, meant, on, store, torrents } from "./store.js";

const AT_ONCE = 4, NAMES_SHOWN = 5, MOVED_AT_MOST = 100;

export function show(dialog) {
  if (!dialog.open) dialog.showModal();
}
for (const dialog of document.querySelectorAll("dialog")) {
  for (const closer of dialog.querySelectorAll("[data-close]")) closer.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

// Several together, a few at a time; what is refused is told once.
export async function each(whom, act, doing) {
  const left = [...whom], refused = [];
  let done = 0;
  async function work() {
    for (let hash = left.shift(); hash; hash = left.shift()) {
      try { await act(hash); } catch (error) { refused.push(error.message); }
      done += 1;
      if (whom.length > 20 && done % 20 === 0) toast(`${doing}: ${done} of ${whom.length}`);
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (refused.length) toast(refused.length === 1 ? refused[0] : `${refused.length} of ${whom.length} were refused: ${refused[0]}`);
  else if (whom.length > 20) toast(`${doing}: done`);
}

const nameOf = (hash) => plain(torrents.get(hash)?.name ?? hash);
function names(list, whom) {
  list.replaceChildren(...whom.slice(0, NAMES_SHOWN).map((hash) => made("li", "", nameOf(hash))));
  if (whom.length > NAMES_SHOWN) list.append(made("li", "dim", `and ${whom.length - NAMES_SHOWN} more`));
}
const path = (hash, rest = "") => `/api/v1/torrents/${hash}${rest}`;

function ready(dialog) {
  const whom = meant();
  if (!whom.length) return null;
  names(dialog.querySelector(".names"), whom);
  dialog.whom = whom;
  return whom;
}

// -- remove, move, label ----------------------------------------------------------------------------------------------

const ACTIONS = {
  resume: (whom) => each(whom, (hash) => ask(path(hash, "/resume"), { method: "POST" }), "Resuming"),
  pause: (whom) => each(whom, (hash) => ask(path(hash, "/pause"), { method: "POST" }), "Pausing"),
  recheck: (whom) => each(whom, (hash) => ask(path(hash, "/recheck"), { method: "POST" }), "Checking"),
  reannounce: (whom) => each(whom, (hash) => ask(path(hash, "/reannounce"), { method: "POST" }), "Asking trackers"),
  async queue(whom, to) {
    if (whom.length > MOVED_AT_MOST) { toast(`At most ${MOVED_AT_MOST} torrents are moved in the queue at once.`); return; }
    try { await send("/api/v1/queue", "POST", { torrents: whom, to }); } catch (error) { toast(error.message); }
  },
  remove() {
    const dialog = $("remove");
    if (!ready(dialog)) return;
    $("with-data").checked = false;
    show(dialog);
  },
  async move() {
    const dialog = $("move"), whom = ready(dialog);
    if (!whom) return;
    $("move-below").value = "";
    $("look").checked = false;
    await folders($("move-folder"));
    show(dialog);
  },
  label() {
    const dialog = $("label-them"), whom = ready(dialog);
    if (!whom) return;
    const worn = whom.map((hash) => labelsOf(torrents.get(hash) ?? {}));
    // of several those that all have
    $("labels").value = (worn[0] ?? []).filter((one) => worn.every((labels) => labels.includes(one))).join(", ");
    dialog.before = words($("labels").value);
    const known = new Set();
    for (const torrent of torrents.values()) for (const one of labelsOf(torrent)) known.add(one);
    $("known-labels").replaceChildren(...[...known].sort().slice(0, 200).map((one) => new Option(plain(one), one)));
    show(dialog);
  },
};
const words = (text) => [...new Set(text.split(",").map((one) => one.trim()).filter(Boolean))];

export function act(what, to) {
  const whom = meant();
  if (store.maySteer && whom.length) ACTIONS[what](whom, to);
}
function onSubmit(dialog, doIt) {
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close();
    doIt(dialog);
  });
}
onSubmit($("remove"), ({ whom }) => {
  const data = $("with-data").checked;
  each(whom, (hash) => ask(path(hash, `?data=${data}`), { method: "DELETE" }), "Removing");
});
onSubmit($("move"), ({ whom }) => {
  const below = $("move-below").value.trim().replace(/^\/+|\/+$/g, ""), folder = $("move-folder").value + (below ? `/${below}` : "");
  const query = new URLSearchParams({ folder, look: $("look").checked });
  each(whom, (hash) => ask(path(hash, `/move?${query}`), { method: "POST" }), "Moving");
});
onSubmit($("label-them"), ({ whom, before }) => {
  const now = words($("labels").value), gone = before.filter((one) => !now.includes(one));
  each(whom, (hash) => {
    const worn = labelsOf(torrents.get(hash) ?? {}).filter((one) => !gone.includes(one));
    return send(path(hash, "/labels"), "PUT", [...new Set([...now, ...worn])]);
  }, "Labelling");
});

// -- adding ----------------------------------------------------------------------------------------------------------

async function folders(select) {
  try {
    const { folders: known, volumes } = await ask("/api/v1/session");
    select.replaceChildren(...known.map((one) => {
      const volume = volumes.find((other) => other.folders.includes(one));
      return new Option(plain(one) + (volume ? ` (${room(volume)})` : ""), one);
    }));
  } catch (error) { toast(error.message); }
}
export function room(volume) {
  if (volume.away) return "away";
  const gib = volume.free_bytes / 2 ** 30;
  return gib >= 1024 ? `${(gib / 1024).toFixed(1)} TiB free` : `${gib.toFixed(gib < 10 ? 1 : 0)} GiB free`;
}

export async function openAdding(links = "") {
  if (!store.maySteer) return;
  $("links").value = links;
  $("files").value = "";
  $("add-label").value = $("add-below").value = "";
  show($("adding"));
  await folders($("add-folder"));
}
onSubmit($("adding"), () => {
  const links = $("links").value.split(/\s+/).filter(Boolean).map((link) => new File([link], link.slice(0, 60)));
  const below = $("add-below").value.trim().replace(/^\/+|\/+$/g, "");
  const query = new URLSearchParams({ sequential: $("add-order").checked });
  if ($("add-folder").value) query.set("downloads", $("add-folder").value + (below ? `/${below}` : ""));
  for (const one of words($("add-label").value)) query.append("label", one);
  add([...links, ...$("files").files], `?${query}`);
});

export async function add(files, query = "") {
  let added = 0, last = "", refused = "";
  for (const file of files) {
    try {
      const told = await ask(`/api/v1/torrents${query}`, { method: "POST", body: file });
      added += told.result === "added";
      last = `${told.name}: ${{ added: "added", known: "is there already", merged: "is there already, with new trackers now" }[told.result]}`;
    } catch (error) { refused = `${file.name}: ${error.message}`; }
  }
  if (refused) toast(refused); else if (files.length === 1) toast(last); else if (files.length) toast(`${count(added, "torrent", "torrents")} added`);
}

// -- the buttons -----------------------------------------------------------------------------------------------------

for (const one of document.querySelectorAll("[data-do]")) {
  one.addEventListener("click", () => act(one.dataset.do, one.dataset.to));
}
function heed() {
  const some = meant().length > 0;
  for (const one of document.querySelectorAll("[data-do]")) one.disabled = !some;
  $("whom").hidden = !chosen.size;
  set($("whom-count"), `${chosen.size.toLocaleString("en")} chosen`);
}
on("chosen", heed);
heed();
