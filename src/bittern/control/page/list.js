// The list of torrents, of which only the rows in sight exist.

import { $, colour, count, duration, made, pen, percent, plain, rate, ratio, set, size, spark } from "./words.js";
import { SAMPLES, choose, chosen, labelsOf, lineUp, on, store, tell, torrents } from "./store.js";

const LABELS_SHOWN = 2;
const COLUMNS = [
  { key: "", head: "", class: "pick" },
  { key: "place", head: "#", class: "place number", text: (t) => t.place ?? "" },
  { key: "name", head: "Name", class: "name" },
  { key: "state", head: "State", class: "state" },
  { key: "progress", head: "Done", class: "progress", down: true },
  { key: "size_bytes", head: "Size", class: "size number", down: true, text: (t) => size(t.size_bytes) },
  { key: "download_rate", head: "Down", class: "down number", down: true, text: (t) => rate(t.download_rate) },
  { key: "upload_rate", head: "Up", class: "up number", down: true, text: (t) => rate(t.upload_rate) },
  { key: "", head: "Lately", class: "lately" },
  { key: "eta_s", head: "Left", class: "left number", text: (t) => duration(t.eta_s) },
  { key: "ratio", head: "Ratio", class: "ratio number", down: true, text: (t) => ratio(t.ratio, 2) },
  { key: "peers", head: "Peers", class: "peers number", down: true, text: (t) => t.peers || "" },
];

let shown = [], at = "", anchor = "", order = { key: "name", down: false }, placesKnown = false;
const pool = new Map();
const everyone = made("input");

for (const column of COLUMNS) {
  const cell = made("div", column.class);
  cell.setAttribute("role", "columnheader");
  if (column.key) {
    const by = made("button", "", column.head);
    by.type = "button";
    by.addEventListener("click", () => sortBy(column.key));
    cell.append(by);
    cell.dataset.key = column.key;
    $("order").append(new Option(`by ${column.head === "#" ? "queue" : column.head.toLowerCase()}`, column.key));
  } else if (column.class === "pick") {
    everyone.type = "checkbox";
    everyone.setAttribute("aria-label", "Choose all that are shown");
    everyone.addEventListener("change", () => choose(shown.map((t) => t.info_hash), everyone.checked));
    cell.append(everyone);
  } else set(cell, column.head);
  $("head").append(cell);
}
$("order").value = "name";
$("order").addEventListener("change", () => sortBy($("order").value));

function sortBy(key) {
  const column = COLUMNS.find((one) => one.key === key);
  order = { key, down: order.key === key ? !order.down : Boolean(column.down) };
  $("order").value = key;
  arrange();
}

const rank = (value) => (value === null || value === undefined || value === "" ? Infinity : value);
export function arrange() {
  if (!placesKnown) { lineUp(); placesKnown = true; }
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const state = $("state").value, label = $("label").value, { key, down } = order;
  shown = [...torrents.values()].filter((t) =>
    (!state || t.state === state) && (!label || labelsOf(t).includes(label)) && words.every((word) => t.folded.includes(word)));
  const sign = down ? -1 : 1, of = key === "name" ? "folded" : key;
  shown.sort((a, b) => {
    const x = rank(a[of]), y = rank(b[of]);
    if (x === y) return a.number - b.number;
    // what has no figure comes last, whichever way
    if (x === Infinity || y === Infinity) return x === Infinity ? 1 : -1;
    return (x < y ? -1 : 1) * sign;
  });
  for (const cell of $("head").children) {
    if (cell.dataset.key) cell.setAttribute("aria-sort", cell.dataset.key === key ? (down ? "descending" : "ascending") : "none");
  }
  $("list").setAttribute("aria-rowcount", shown.length + 1);
  $("empty").hidden = torrents.size > 0;
  $("none").hidden = torrents.size === 0 || shown.length > 0;
  set($("shown"), shown.length === torrents.size ? "" : `${shown.length} of ${torrents.size} shown`);
  draw();
}

function height() {
  const root = getComputedStyle(document.documentElement);
  return parseFloat(root.getPropertyValue("--row")) * parseFloat(root.fontSize);
}

export function draw() {
  const high = height(), box = $("scroll"), first = Math.max(0, Math.floor(box.scrollTop / high) - 5);
  const last = Math.min(shown.length, Math.ceil((box.scrollTop + box.clientHeight) / high) + 5);
  $("rows").style.height = `${shown.length * high}px`;
  const ink = { down: colour("mark"), up: colour("good") }, wanted = new Set();
  for (let index = first; index < last; index += 1) {
    const torrent = shown[index];
    wanted.add(torrent.info_hash);
    let row = pool.get(torrent.info_hash);
    if (!row) { row = makeRow(torrent.info_hash); pool.set(torrent.info_hash, row); $("rows").append(row); }
    fill(row, torrent, index, high, ink);
  }
  for (const [hash, row] of pool) if (!wanted.has(hash)) { row.remove(); pool.delete(hash); }
  const some = chosen.size > 0;
  everyone.checked = some && shown.length > 0 && shown.every((t) => chosen.has(t.info_hash));
  everyone.indeterminate = some && !everyone.checked;
  if (pool.has(at)) $("list").setAttribute("aria-activedescendant", `row-${at}`);
  else $("list").removeAttribute("aria-activedescendant");
}

function makeRow(hash) {
  const row = made("div", "row");
  row.setAttribute("role", "row");
  row.id = `row-${hash}`;
  for (const column of COLUMNS) {
    const cell = made("div", column.class);
    cell.setAttribute("role", "gridcell");
    row.append(cell);
  }
  const box = made("input");
  box.type = "checkbox";
  box.tabIndex = -1;
  box.addEventListener("click", (event) => {
    event.stopPropagation();
    if (event.shiftKey && anchor) extend(hash); else choose([hash], box.checked);
    at = anchor = hash;
    draw();
  });
  row.querySelector(".pick").append(box);
  row.querySelector(".name").append(made("bdi", "words"), made("span", "labels"), made("bdi", "why"));
  const gauge = made("div", "gauge");
  gauge.setAttribute("role", "meter");
  gauge.setAttribute("aria-valuemax", "100");
  gauge.append(made("span"));
  row.querySelector(".progress").append(gauge, made("span", "share"));
  const line = document.createElement("canvas");
  line.setAttribute("aria-hidden", "true");
  row.querySelector(".lately").append(line);
  row.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey) choose([hash], !chosen.has(hash));
    else if (event.shiftKey && anchor) extend(hash);
    else tell("open", { hash, byKey: false });
    at = hash;
    if (!event.shiftKey) anchor = hash;
    draw();
  });
  return row;
}

function fill(row, torrent, index, high, ink) {
  const picked = chosen.has(torrent.info_hash), [box] = row.querySelector(".pick").children;
  row.style.top = `${index * high}px`;
  row.setAttribute("aria-rowindex", index + 2);
  row.setAttribute("aria-selected", picked);
  row.className = `row s-${torrent.state}${at === torrent.info_hash ? " at" : ""}${store.open === torrent.info_hash ? " open" : ""}`;
  if (row.torrent === torrent && row.place === torrent.place) { box.checked = picked; return; }
  row.torrent = torrent;
  row.place = torrent.place;
  const name = plain(torrent.name), cells = row.children;
  box.checked = picked;
  box.setAttribute("aria-label", `Choose ${name}`);
  const [words, labels, why] = row.querySelector(".name").children;
  set(words, name);
  words.title = name;
  const worn = labelsOf(torrent);
  if (labels.dataset.worn !== worn.join()) {
    labels.dataset.worn = worn.join();
    labels.replaceChildren(...worn.slice(0, LABELS_SHOWN).map((one) => made("bdi", "chip", one)));
    if (worn.length > LABELS_SHOWN) labels.append(made("span", "chip", `+${worn.length - LABELS_SHOWN}`));
  }
  set(why, torrent.error);
  why.title = plain(torrent.error);
  set(row.querySelector(".state"), torrent.state);
  const [gauge, share] = row.querySelector(".progress").children, done = Math.floor(torrent.progress * 1000) / 10;
  gauge.firstChild.style.width = `${done}%`;
  gauge.setAttribute("aria-valuenow", done);
  gauge.setAttribute("aria-label", "done");
  set(share, percent(torrent.progress));
  COLUMNS.forEach((column, place) => { if (column.text) set(cells[place], column.text(torrent)); });
  const canvas = row.querySelector("canvas");
  if (torrent.past || canvas.drawn) {
    const { down, up } = torrent.past ?? { down: [], up: [] }, context = pen(canvas, 64, 16);
    const most = Math.max(1, ...down, ...up);
    spark(context, up, most, SAMPLES, 64, 16, ink.up);
    spark(context, down, most, SAMPLES, 64, 16, ink.down);
    canvas.drawn = Boolean(torrent.past);
  }
}

function extend(hash) {
  const ends = [anchor, hash].map((one) => shown.findIndex((t) => t.info_hash === one)).sort((a, b) => a - b);
  if (ends[0] >= 0) choose(shown.slice(ends[0], ends[1] + 1).map((t) => t.info_hash), true);
}

const JUMPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -Infinity, End: Infinity };
$("list").addEventListener("keydown", (event) => {
  if (event.target !== $("list")) return;
  const step = JUMPS[event.key];
  if (step !== undefined && shown.length) {
    const index = shown.findIndex((t) => t.info_hash === at);
    const next = Math.max(0, Math.min(shown.length - 1, index < 0 ? (step === Infinity ? step : 0) : index + step));
    if (event.shiftKey) anchor ||= at; else anchor = shown[next].info_hash;
    at = shown[next].info_hash;
    if (event.shiftKey) extend(at);
    const high = height(), box = $("scroll");
    if (next * high < box.scrollTop) box.scrollTop = next * high;
    if ((next + 1) * high > box.scrollTop + box.clientHeight) box.scrollTop = (next + 1) * high - box.clientHeight;
    draw();
    if (store.open) tell("open", { hash: at, byKey: false });
  } else if (event.key === " " && at) { choose([at], !chosen.has(at)); anchor = at; }
  else if (event.key === "Enter" && at) tell("open", { hash: at, byKey: true });
  else if (event.key === "a" && (event.ctrlKey || event.metaKey)) choose(shown.map((t) => t.info_hash), true);
  else return;
  event.preventDefault();
});

let drawing = 0;
function drawSoon() { drawing ||= requestAnimationFrame(() => { drawing = 0; draw(); }); }
$("scroll").addEventListener("scroll", drawSoon, { passive: true });
new ResizeObserver(drawSoon).observe($("scroll"));
for (const id of ["filter", "state", "label"]) $(id).addEventListener("input", arrange);
on("chosen", draw);
on("places", () => { placesKnown = false; });

function options(select, values, all) {
  const known = [...values].filter(Boolean).sort(), now = select.value, written = known.join("\n");
  if (written === select.dataset.known) return;
  select.dataset.known = written;
  select.replaceChildren(new Option(all, ""), ...known.map((one) => new Option(plain(one), one)));
  select.value = known.includes(now) ? now : "";
  select.parentElement.hidden = !known.length;
}

// of thousands that come in fifty messages, one sorting
let coming = 0;
export function arrangeSoon() {
  coming ||= setTimeout(() => {
    coming = 0;
    const states = new Set(), labels = new Set();
    for (const torrent of torrents.values()) { states.add(torrent.state); for (const one of labelsOf(torrent)) labels.add(one); }
    options($("state"), states, "all states");
    options($("label"), labels, "all labels");
    arrange();
  }, 50);
}
export const chosenWords = () => count(chosen.size, "torrent", "torrents");
