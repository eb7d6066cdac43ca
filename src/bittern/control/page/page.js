// The page: a list of which only the visible rows exist, fed by one stream of changes. Whatever a torrent says is text
// (textContent), never markup.

const $ = (id) => document.getElementById(id);
const torrents = new Map();
const chosen = new Set();
let shown = [], at = "", open = "", tab = "facts", order = { key: "name", down: false }, maySteer = false;
const history = { down: [], up: [] };
const HISTORY = 120, EVENTS = 200;

const SIZES = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
function size(count) {
  let unit = 0;
  while (count >= 1024 && unit < SIZES.length - 1) { count /= 1024; unit += 1; }
  return unit ? `${count.toFixed(1)} ${SIZES[unit]}` : `${Math.round(count)} bytes`;
}
const rate = (perS) => (perS ? `${size(perS)}/s` : "");
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const parts = [];
  for (const [unit, letter] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    if (seconds >= unit || (unit === 1 && !parts.length)) { parts.push(`${Math.floor(seconds / unit)} ${letter}`); seconds %= unit; }
    else if (parts.length) break;
  }
  return parts.slice(0, 2).join(" ");
}
const percent = (share) => `${(Math.floor(share * 1000) / 10).toFixed(1)} %`;
const time = (wall) => (wall ? new Date(wall * 1000).toLocaleString() : "");

const COLUMNS = [
  { key: "", head: "", class: "pick" },
  { key: "name", head: "Name", class: "name" },
  { key: "state", head: "State", class: "state" },
  { key: "progress", head: "Done", class: "progress" },
  { key: "size_bytes", head: "Size", class: "number", text: (t) => size(t.size_bytes) },
  { key: "download_rate", head: "Down", class: "number", text: (t) => rate(t.download_rate) },
  { key: "upload_rate", head: "Up", class: "number", text: (t) => rate(t.upload_rate) },
  { key: "eta_s", head: "Left", class: "number", text: (t) => duration(t.eta_s) },
  { key: "ratio", head: "Ratio", class: "number", text: (t) => (t.ratio === null ? "" : t.ratio.toFixed(2)) },
];

function made(tag, cls, text) {
  const element = document.createElement(tag);
  if (cls) element.className = cls;
  if (text !== undefined) element.textContent = text;
  return element;
}

// -- the list -----------------------------------------------------------------------------------------------------

for (const column of COLUMNS) {
  const cell = made("div", column.class);
  cell.setAttribute("role", "columnheader");
  if (column.key) {
    const button = made("button", "", column.head);
    button.type = "button";
    button.addEventListener("click", () => {
      order = { key: column.key, down: order.key === column.key ? !order.down : typeof sample(column.key) === "number" };
      arrange();
    });
    cell.append(button);
    cell.dataset.key = column.key;
  }
  $("head").append(cell);
}
function sample(key) { for (const torrent of torrents.values()) return torrent[key]; return ""; }

function arrange() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const state = $("state").value, label = $("label").value, { key, down } = order;
  shown = [...torrents.values()].filter((t) =>
    (!state || t.state === state) && (!label || t.label === label) && words.every((word) => t.folded.includes(word)));
  const sign = down ? -1 : 1;
  shown.sort((a, b) => {
    const x = a[key] ?? -Infinity, y = b[key] ?? -Infinity;
    return (x < y ? -1 : x > y ? 1 : a.number - b.number) * sign;
  });
  for (const cell of $("head").children) {
    cell.setAttribute("aria-sort", cell.dataset.key === key ? (down ? "descending" : "ascending") : "none");
  }
  $("list").setAttribute("aria-rowcount", shown.length + 1);
  $("empty").hidden = torrents.size > 0;
  draw();
}

const pool = new Map();
function draw() {
  const height = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")) *
    parseFloat(getComputedStyle(document.documentElement).fontSize);
  const box = $("scroll"), first = Math.max(0, Math.floor(box.scrollTop / height) - 5);
  const last = Math.min(shown.length, Math.ceil((box.scrollTop + box.clientHeight) / height) + 5);
  $("rows").style.height = `${shown.length * height}px`;
  const wanted = new Set();
  for (let index = first; index < last; index += 1) {
    const torrent = shown[index];
    wanted.add(torrent.info_hash);
    let row = pool.get(torrent.info_hash);
    if (!row) { row = makeRow(torrent.info_hash); pool.set(torrent.info_hash, row); $("rows").append(row); }
    fill(row, torrent, index, height);
  }
  for (const [hash, row] of pool) if (!wanted.has(hash)) { row.remove(); pool.delete(hash); }
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
  box.addEventListener("click", (event) => { event.stopPropagation(); choose(hash, box.checked); });
  row.children[0].append(box);
  row.children[3].append(document.createElement("meter"), made("span"));
  row.addEventListener("click", () => { at = hash; show(hash); draw(); });
  return row;
}

function fill(row, torrent, index, height) {
  row.style.top = `${index * height}px`;
  row.setAttribute("aria-rowindex", index + 2);
  row.setAttribute("aria-selected", chosen.has(torrent.info_hash));
  row.classList.toggle("at", at === torrent.info_hash);
  const cells = row.children;
  cells[0].firstChild.checked = chosen.has(torrent.info_hash);
  cells[0].firstChild.setAttribute("aria-label", `Choose ${torrent.name}`);
  set(cells[1], torrent.name);
  cells[1].title = torrent.name;
  set(cells[2], torrent.state);
  cells[2].className = `state s-${torrent.state}`;
  const [meter, share] = cells[3].children;
  meter.value = torrent.progress;
  meter.setAttribute("aria-label", `${percent(torrent.progress)} done`);
  set(share, percent(torrent.progress));
  for (let column = 4; column < COLUMNS.length; column += 1) set(cells[column], COLUMNS[column].text(torrent));
}
function set(element, text) { if (element.textContent !== text) element.textContent = text; }

function choose(hash, yes) {
  if (yes) chosen.add(hash); else chosen.delete(hash);
  for (const button of document.querySelectorAll("[data-do]")) button.disabled = !chosen.size && !open;
  draw();
}

$("scroll").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
addEventListener("resize", draw);
for (const id of ["filter", "state", "label"]) $(id).addEventListener("input", arrange);

$("list").addEventListener("keydown", (event) => {
  const index = shown.findIndex((t) => t.info_hash === at);
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -Infinity, End: Infinity }[event.key];
  if (step !== undefined && shown.length) {
    const next = Math.max(0, Math.min(shown.length - 1, index < 0 ? 0 : index + step));
    at = shown[next].info_hash;
    const height = $("rows").clientHeight / shown.length, box = $("scroll");
    if (next * height < box.scrollTop) box.scrollTop = next * height;
    if ((next + 1) * height > box.scrollTop + box.clientHeight) box.scrollTop = (next + 1) * height - box.clientHeight;
    draw();
    $("list").setAttribute("aria-activedescendant", `row-${at}`);
  } else if (event.key === " " && at && event.target === $("list")) choose(at, !chosen.has(at));
  else if (event.key === "Enter" && at && event.target === $("list")) show(at);
  else return;
  event.preventDefault();
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") close();
  if (event.key === "/" && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) { event.preventDefault(); $("filter").focus(); }
});

// -- one of them --------------------------------------------------------------------------------------------------

async function ask(path, terms = {}) {
  const response = await fetch(path, { cache: "no-store", ...terms });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ? answer.error.message : `status ${response.status}`);
  return answer;
}

function show(hash) {
  open = hash;
  $("detail").hidden = false;
  for (const button of document.querySelectorAll("[data-do]")) button.disabled = false;
  refresh();
  draw();
}
function close() { open = ""; $("detail").hidden = true; choose("", false); }
$("close").addEventListener("click", close);

const TABS = {
  files: ["files", ["Done", "Size", "File"], (f) => [percent(f.progress), size(f.length), f.path]],
  peers: ["peers", ["Address", "Has", "Down", "Up", "Client"],
    (p) => [`${p.address}:${p.port}`, percent(p.progress), rate(p.download_rate), rate(p.upload_rate), p.client]],
  trackers: ["trackers", ["Tier", "Tracker", "Answered", "Next", "Failures"],
    (t) => [t.tier, t.url, t.answered_s_ago === null ? "not yet" : `${duration(t.answered_s_ago)} ago`,
      t.next_in_s === null ? "" : `in ${duration(t.next_in_s)}`, t.failures || ""]],
};
const FACTS = [
  ["State", (t) => t.state], ["Done", (t) => `${percent(t.progress)}, ${size(t.left_bytes)} left`],
  ["Size", (t) => size(t.size_bytes)], ["Down", (t) => `${rate(t.download_rate) || "0"}, ${size(t.downloaded_bytes)} in all`],
  ["Up", (t) => `${rate(t.upload_rate) || "0"}, ${size(t.uploaded_bytes)} in all`], ["Time left", (t) => duration(t.eta_s)],
  ["Ratio", (t) => (t.ratio === null ? "" : t.ratio.toFixed(3))], ["Peers", (t) => `${t.peers}, ${t.peers_seeding} of them seeds`],
  ["Label", (t) => t.label], ["Path", (t) => t.path], ["Private", (t) => (t.private ? "yes" : "")], ["Added", (t) => time(t.added_at)],
  ["Completed", (t) => time(t.completed_at)], ["Info hash", (t) => t.info_hash],
];

async function refresh() {
  const hash = open, which = tab;
  if (!hash) return;
  try {
    const base = `/api/v1/torrents/${hash}`;
    const facts = await ask(base);
    const rows = which === "facts" ? null : (await ask(`${base}/${TABS[which][0]}`))[TABS[which][0]];
    if (hash !== open || which !== tab) return;
    set($("title"), facts.name);
    set($("error"), facts.error);
    const table = made("table");
    if (rows === null) {
      for (const [head, text] of FACTS) {
        const line = text(facts);
        if (line === "") continue;
        const row = table.insertRow();
        row.append(made("th", "", head), made("td", "", line));
      }
    } else {
      const [, heads, cells] = TABS[which];
      const head = table.createTHead().insertRow();
      for (const one of heads) head.append(made("th", "", one));
      const body = table.createTBody();
      for (const one of rows.slice(0, 2000)) {
        const row = body.insertRow();
        for (const cell of cells(one)) row.append(made("td", "", String(cell)));
      }
      if (rows.length > 2000) body.insertRow().append(made("td", "dim", `and ${rows.length - 2000} more`));
    }
    $("tab").replaceChildren(table);
  } catch (error) { set($("error"), String(error.message)); }
}
setInterval(() => { if (!document.hidden) refresh(); }, 2000);
for (const button of document.querySelectorAll("[data-tab]")) {
  button.addEventListener("click", () => {
    tab = button.dataset.tab;
    for (const other of document.querySelectorAll("[data-tab]")) other.setAttribute("aria-selected", other === button);
    refresh();
  });
}

// -- steering -----------------------------------------------------------------------------------------------------

function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { $("toast").hidden = true; }, 6000);
}

for (const button of document.querySelectorAll("[data-do]")) {
  button.disabled = true;
  button.addEventListener("click", async () => {
    const what = button.dataset.do, whom = chosen.size ? [...chosen] : open ? [open] : [];
    if (what === "remove" && !confirm(`Remove ${whom.length === 1 ? torrents.get(whom[0])?.name : `${whom.length} torrents`}? The files stay.`)) return;
    for (const hash of whom) {
      try {
        if (what === "remove") await ask(`/api/v1/torrents/${hash}`, { method: "DELETE" });
        else await ask(`/api/v1/torrents/${hash}/${what}`, { method: "POST" });
      } catch (error) { toast(error.message); }
    }
  });
}

async function add(files) {
  for (const file of files) {
    try {
      const told = await ask("/api/v1/torrents", { method: "POST", body: file });
      toast(told.result === "added" ? `${told.name}: added` : `${told.name}: is there already`);
    } catch (error) { toast(`${file.name}: ${error.message}`); }
  }
}
$("files").addEventListener("change", () => { add([...$("files").files]); $("files").value = ""; });
let over = 0;
addEventListener("dragenter", (event) => { event.preventDefault(); over += 1; $("drop").hidden = !maySteer; });
addEventListener("dragleave", () => { over -= 1; if (!over) $("drop").hidden = true; });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("paste", (event) => {
  const text = event.clipboardData.getData("text").trim();
  if (!maySteer || !text.toLowerCase().startsWith("magnet:") || /^(INPUT|SELECT)$/.test(document.activeElement.tagName)) return;
  add(text.split(/\s+/).map((link) => new File([link], link.slice(0, 60))));
});
addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  $("drop").hidden = true;
  if (maySteer) add([...event.dataTransfer.files]); else toast("This page is for looking only (web.access).");
});

// -- what comes in ------------------------------------------------------------------------------------------------

function line(canvas, values) {
  const pen = canvas.getContext("2d"), most = Math.max(1, ...values);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--mark");
  pen.lineWidth = 1.5;
  pen.beginPath();
  values.forEach((value, index) => pen.lineTo((index / (HISTORY - 1)) * canvas.width, canvas.height - 2 - (value / most) * (canvas.height - 4)));
  pen.stroke();
}

function options(select, values, all) {
  const known = [...values].filter(Boolean).sort(), now = select.value;
  if (known.join("\n") === select.dataset.known) return;
  select.dataset.known = known.join("\n");
  select.replaceChildren(new Option(all, ""), ...known.map((one) => new Option(one, one)));
  select.value = known.includes(now) ? now : "";
}

function take(update) {
  if (update.anew) { torrents.clear(); chosen.clear(); }
  for (const torrent of update.torrents) {
    torrent.folded = torrent.name.toLowerCase();
    torrents.set(torrent.info_hash, torrent);
  }
  for (const hash of update.removed) { torrents.delete(hash); chosen.delete(hash); if (hash === open) close(); }
  const { session } = update;
  maySteer = update.may_steer;
  $("steer").hidden = !maySteer;
  document.querySelector(".steering").hidden = !maySteer;
  set($("count"), `${session.torrents}: ${session.downloading} downloading, ${session.complete} complete${session.errors ? `, ${session.errors} in error` : ""}`);
  set($("peers"), String(session.peers));
  set($("down"), rate(session.download_rate) || "0");
  set($("up"), rate(session.upload_rate) || "0");
  for (const way of ["down", "up"]) {
    history[way].push(session[`${way}load_rate`]);
    if (history[way].length > HISTORY) history[way].shift();
    line($(`${way}-line`), history[way]);
  }
  if (update.torrents.length || update.removed.length) {
    const states = new Set(), labels = new Set();
    for (const torrent of torrents.values()) { states.add(torrent.state); labels.add(torrent.label); }
    options($("state"), states, "all states");
    options($("label"), labels, "all labels");
  }
  if (update.torrents.length || update.removed.length || update.anew) arrangeSoon();
}

let coming = 0;
function arrangeSoon() {
  // of thousands that come in fifty messages, one sorting
  coming ||= setTimeout(() => { coming = 0; arrange(); }, 50);
}

function tell(event) {
  const { event: name, level, at: wall, ...rest } = event;
  const item = made("li", level === "error" ? "danger" : "");
  const words = Object.entries(rest).filter(([key]) => key !== "info_hash").map(([key, value]) => (key === "name" ? value : `${key}=${value}`));
  item.textContent = `${new Date((wall || Date.now() / 1000) * 1000).toLocaleTimeString()}  ${name}  ${words.join("  ")}`;
  $("events").prepend(item);
  while ($("events").children.length > EVENTS) $("events").lastChild.remove();
}

const updates = new EventSource("/api/v1/updates");
updates.addEventListener("open", () => set($("link"), "live"));
updates.addEventListener("error", () => set($("link"), "bittern does not answer; trying again …"));
updates.addEventListener("message", (message) => take(JSON.parse(message.data)));
updates.addEventListener("told", (message) => tell(JSON.parse(message.data)));
arrange();
