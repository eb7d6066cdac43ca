// One torrent from all sides.

import {
  $, ask, colour, count, date, duration, keep, made, pen, percent, plain, rate, ratio, send, set, size, spark, toast,
} from "./words.js";
import { SAMPLES, labelsOf, on, store, tell, torrents } from "./store.js";
import { drawMap, makeMap } from "./pieces.js";
import { OWN, makeForm } from "./forms.js";
import { eventLine, recent } from "./log.js";

const ROWS_AT_MOST = 500;
const EVERY_MS = 2000;
let tab = "facts", turn = 0, timer = 0;
const base = () => `/api/v1/torrents/${store.open}`;

const FACTS = [
  ["State", (t) => t.state], ["Why", (t, why) => why.standing], ["Done", (t) => `${percent(t.progress)}${t.left_bytes ? `, ${size(t.left_bytes)} left` : ""}`],
  ["Time left", (t) => duration(t.eta_s)],
  ["Down", (t) => `${rate(t.download_rate) || "0"}, ${size(t.downloaded_bytes)} in all`],
  ["Up", (t) => `${rate(t.upload_rate) || "0"}, ${size(t.uploaded_bytes)} in all`],
  ["Ratio", (t) => ratio(t.ratio, 3)], ["Seeding", (t, why) => (t.progress === 1 ? why.seeding : "")],
  ["Limits", (t, why) => (why.limits ?? []).join("\n")],
  ["Peers", (t) => `${t.peers}, ${count(t.peers_seeding, "of them a seed", "of them seeds")}`],
  ["Swarm", (t) => (t.swarm_seeds === null ? "" : `${count(t.swarm_seeds, "seed", "seeds")}, ${t.swarm_leechers} others`)],
  ["Size", (t) => size(t.size_bytes) + (t.wanted_bytes < t.size_bytes ? `, ${size(t.wanted_bytes)} wanted` : "")],
  ["Pieces", (t) => (t.piece_count ? `${t.piece_count.toLocaleString("en")} of ${size(t.piece_length)}` : "")],
  ["Labels", (t) => labelsOf(t).join(", ")], ["Path", (t) => t.path], ["Moving to", (t) => t.moving_to],
  ["Private", (t) => (t.private ? "yes" : "")], ["Added", (t) => date(t.added_at)], ["Completed", (t) => date(t.completed_at)],
  ["Info hash", (t) => t.info_hash],
];

function makeFacts() {
  const box = made("div"), line = made("canvas", "history");
  line.setAttribute("role", "img");
  box.append(line, made("table", "facts"));
  return box;
}
async function fillFacts(box, facts) {
  const why = await ask(`${base()}/explain`), [line, table] = box.children;
  const rows = FACTS.map(([head, text]) => [head, text(facts, why)]).filter(([, text]) => text !== "" && text !== undefined);
  table.body ??= table.createTBody();
  keep(table.body, rows, ([head]) => head, ([head]) => {
    const row = made("tr"), name = made("th", "", head);
    name.scope = "row";
    row.append(name, made("td"));
    return row;
  }, (row, [, text]) => set(row.lastChild, text));
  drawHistory(line);
}
function drawHistory(canvas) {
  const past = torrents.get(store.open)?.past, wide = canvas.parentElement.clientWidth, high = 44;
  canvas.hidden = !past;
  if (!past) return;
  canvas.style.width = `${wide}px`;
  canvas.style.height = `${high}px`;
  const context = pen(canvas, wide, high), most = Math.max(1, ...past.down, ...past.up);
  context.fillStyle = colour("line");
  context.fillRect(0, high - 1, wide, 1);
  spark(context, past.up, most, SAMPLES, wide, high, colour("good"));
  spark(context, past.down, most, SAMPLES, wide, high, colour("mark"));
  canvas.setAttribute("aria-label", `Rates of the last two minutes, at most ${rate(most)}`);
}

// -- tables ---------------------------------------------------------------------------------------------------------

function table(heads, key, cells) {
  return {
    make() {
      const made_ = made("table", "wide"), row = made_.createTHead().insertRow();
      for (const [head, cls] of heads) { const cell = made("th", cls, head); cell.scope = "col"; row.append(cell); }
      made_.body = made_.createTBody();
      return made_;
    },
    fill(made_, rows) {
      keep(made_.body, rows, key, () => {
        const row = made("tr");
        for (const [, cls] of heads) row.append(made("td", cls));
        return row;
      }, (row, one) => cells(one).forEach((text, at) => set(row.children[at], text)));
    },
  };
}
const PEERS = table(
  [["Address", "address"], ["Has", "number"], ["Down", "number"], ["Up", "number"], ["Client", ""]],
  (p) => `${p.address} ${p.port}`,
  (p) => [p.address.includes(":") ? `[${p.address}]:${p.port}` : `${p.address}:${p.port}`, percent(p.progress), rate(p.download_rate), rate(p.upload_rate), p.client],
);
const TRACKERS = table(
  [["Tier", "number"], ["Tracker", ""], ["Answered", ""], ["Next", ""], ["Failures", "number"]],
  (t, at) => at, // of one host there may be several
  (t) => [t.tier + 1, t.url, t.answered_s_ago === null ? "not yet" : `${duration(t.answered_s_ago)} ago`,
    t.next_in_s === null ? "" : `in ${duration(t.next_in_s)}`, t.failures || ""],
);
function listing(of, what, none) {
  return {
    make() { const box = made("div"); box.append(made("p", "dim"), of.make()); return box; },
    async fill(box) {
      const rows = (await ask(`${base()}/${what}`))[what];
      const [said, made_] = box.children;
      set(said, rows.length ? (rows.length > ROWS_AT_MOST ? `The first ${ROWS_AT_MOST} of ${rows.length}.` : "") : none);
      said.hidden = !said.textContent;
      made_.hidden = !rows.length;
      of.fill(made_, rows.slice(0, ROWS_AT_MOST));
    },
  };
}

// -- files ------------------------------------------------------------------------------------------------------------

const LEVELS = ["skip", "low", "normal", "high"];
function levels(label, now, act) {
  const select = made("select");
  select.setAttribute("aria-label", label);
  if (now === "") select.append(new Option("set all shown …", ""));
  for (const level of LEVELS) select.append(new Option(level, level));
  select.value = now;
  select.addEventListener("change", () => { if (select.value) act(select.value); });
  return select;
}
// what is sent for a level: a file that was skipped is taken as well
const wish = (level, which) => (level === "skip" ? { skip: which } : { take: which, [level]: which });
async function wishFor(level, indices) {
  const ranges = [];
  for (const index of indices) {
    const last = ranges.at(-1);
    if (last && last[1] === index - 1) last[1] = index; else ranges.push([index, index]);
  }
  try {
    await send(`${base()}/files`, "PATCH", wish(level, ranges.map(([a, b]) => (a === b ? a : `${a}-${b}`))));
    refresh();
  } catch (error) { toast(error.message); }
}
const FILES = {
  make() {
    const box = made("div"), bar = made("div", "filebar"), find = made("input"), order = made("label", "order"), tick = made("input");
    find.type = "search";
    find.placeholder = "Filter its files";
    find.setAttribute("aria-label", "Filter its files");
    find.addEventListener("input", () => FILES.draw(box));
    tick.type = "checkbox";
    tick.addEventListener("change", async () => {
      try { await send(`${base()}/files`, "PATCH", { sequential: tick.checked }); } catch (error) { toast(error.message); }
    });
    order.append(tick, made("span", "", "pieces in order"));
    const all = levels("Set all files that are shown", "", (level) => {
      wishFor(level, box.shown.map((file) => file.index));
      all.value = "";
    });
    bar.append(find, all, order);
    all.hidden = order.hidden = all.disabled = tick.disabled = !store.maySteer;
    const made_ = made("table", "wide files"), head = made_.createTHead().insertRow();
    for (const [text, cls] of [["File", ""], ["Done", "number"], ["Size", "number"], ["Wanted", ""]]) {
      const cell = made("th", cls, text);
      cell.scope = "col";
      head.append(cell);
    }
    made_.body = made_.createTBody();
    box.append(bar, made_, made("p", "dim"));
    box.tick = tick;
    return box;
  },
  async fill(box, facts) {
    box.files = (await ask(`${base()}/files`)).files;
    box.tick.checked = facts.sequential;
    FILES.draw(box);
  },
  draw(box) {
    const [bar, made_, said] = box.children, words = bar.firstChild.value.toLowerCase().split(/\s+/).filter(Boolean);
    box.shown = (box.files ?? []).filter((file) => words.every((word) => file.path.toLowerCase().includes(word)));
    const rows = box.shown.slice(0, ROWS_AT_MOST);
    keep(made_.body, rows, (file) => file.index, (file) => {
      const row = made("tr"), name = made("td", "path"), wanted = made("td");
      name.append(made("bdi"));
      row.append(name, made("td", "number"), made("td", "number"), wanted);
      if (store.maySteer) wanted.append(levels(`Priority of ${plain(file.name)}`, file.priority, (level) => wishFor(level, [row.index])));
      return row;
    }, (row, file) => {
      row.index = file.index;
      row.classList.toggle("skipped", !file.wanted);
      const [name, done, long, wanted] = row.children;
      set(name.firstChild, file.path);
      set(done, percent(file.progress));
      set(long, size(file.length));
      const select = wanted.querySelector("select");
      if (!select) set(wanted, file.priority);
      else if (document.activeElement !== select) select.value = file.priority;
    });
    const more = box.shown.length - rows.length;
    set(said, more > 0 ? `and ${count(more, "file", "files")} more: filter to see them` : "");
  },
};

// -- the rest ---------------------------------------------------------------------------------------------------------

const LIMITS = {
  make() {
    const form = makeForm(OWN, {
      may: store.maySteer,
      submit: async (changes) => { form.fill(await send(`${base()}/limits`, "PATCH", changes)); },
    });
    return form;
  },
  async fill(form) {
    if (form.of === store.open) return; // somebody may be writing in it
    form.fill(await ask(`${base()}/limits`));
    form.of = store.open;
  },
};
const LOG = {
  make() { const box = made("div"); box.append(made("ol", "lines"), made("p", "dim", "Nothing happened since bittern started, or it was long ago.")); return box; },
  fill(box) {
    const told = recent.filter((event) => event.info_hash === store.open).reverse();
    keep(box.firstChild, told.slice(0, ROWS_AT_MOST), (event) => event.key, (event) => eventLine(event, false), () => {});
    box.lastChild.hidden = told.length > 0;
  },
};
const PIECES = { make: makeMap, async fill(box) { drawMap(box, await ask(`${base()}/pieces`)); } };

const TABS = {
  facts: { make: makeFacts, fill: fillFacts },
  files: FILES,
  peers: listing(PEERS, "peers", "Nobody is connected."),
  trackers: listing(TRACKERS, "trackers", "It has no trackers."),
  pieces: PIECES, limits: LIMITS, log: LOG,
};

let made_ = null, shownOf = "";
async function refresh() {
  clearTimeout(timer);
  const mine = turn += 1, hash = store.open, which = tab;
  if (!hash) return;
  const began = performance.now();
  try {
    const facts = await ask(base());
    if (mine !== turn) return;
    set($("title"), facts.name);
    $("title").title = plain(facts.name);
    set($("error"), facts.error);
    if (shownOf !== `${hash} ${which} ${store.maySteer}`) {
      shownOf = `${hash} ${which} ${store.maySteer}`;
      made_ = TABS[which].make();
      $("tab").replaceChildren(made_);
    }
    await TABS[which].fill(made_, facts);
  } catch (error) {
    if (mine === turn) set($("error"), error.message);
  }
  // 100 000 files take a second to tell: they are asked for more rarely
  if (mine === turn) timer = setTimeout(again, Math.max(EVERY_MS, (performance.now() - began) * 10));
}
function again() { if (document.hidden) timer = setTimeout(again, EVERY_MS); else refresh(); }

export function close() {
  if (!store.open) return false;
  store.open = "";
  turn += 1;
  shownOf = "";
  $("detail").hidden = true;
  $("tab").replaceChildren();
  tell("chosen");
  $("list").focus({ preventScroll: true });
  return true;
}

on("open", ({ hash, byKey }) => {
  const torrent = torrents.get(hash);
  if (!torrent) return;
  store.open = hash;
  $("detail").hidden = false;
  set($("title"), torrent.name);
  if (byKey) document.querySelector("[data-tab][aria-selected=true]").focus();
  tell("chosen");
  refresh();
});
on("steer", () => { if (store.open) refresh(); });
on("told", (event) => { if (tab === "log" && event.info_hash === store.open && made_) LOG.fill(made_); });
$("close").addEventListener("click", close);

const tabs = [...document.querySelectorAll("[data-tab]")];
function pick(which) {
  tab = which.dataset.tab;
  for (const other of tabs) {
    other.setAttribute("aria-selected", other === which);
    other.tabIndex = other === which ? 0 : -1;
  }
  $("tab").setAttribute("aria-labelledby", which.id);
  refresh();
}
for (const one of tabs) {
  one.addEventListener("click", () => pick(one));
  one.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(one), next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const other = tabs[(next + tabs.length) % tabs.length];
    other.focus();
    pick(other);
  });
}
