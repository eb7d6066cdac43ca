// Numbers and texts for people, and what puts them into the page. Whatever a torrent says is text (textContent), never
// markup, and what would steer the text around it (bidirectional overrides, control characters) is shown as a mark.

const SIZES = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
export function size(count) {
  let unit = 0;
  while (count >= 1024 && unit < SIZES.length - 1) { count /= 1024; unit += 1; }
  return unit ? `${count.toFixed(1)} ${SIZES[unit]}` : `${Math.round(count)} bytes`;
}
export const rate = (perS) => (perS ? `${size(perS)}/s` : "");
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const parts = [];
  for (const [unit, letter] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    if (seconds >= unit || (unit === 1 && !parts.length)) { parts.push(`${Math.floor(seconds / unit)} ${letter}`); seconds %= unit; }
    else if (parts.length) break;
  }
  return parts.slice(0, 2).join(" ");
}
export const percent = (share) => `${(Math.floor(share * 1000) / 10).toFixed(1)} %`;
export const ratio = (value, digits) => (value === null || value === undefined ? "" : value.toFixed(digits));
export const count = (number, one, more) => `${number.toLocaleString("en")} ${number === 1 ? one : more}`;

const two = (number) => String(number).padStart(2, "0");
export function clock(wall) {
  const at = new Date(wall * 1000);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}
export function date(wall) {
  if (!wall) return "";
  const at = new Date(wall * 1000);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(wall)}`;
}

const STEERS = /[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
export const plain = (text) => String(text).replace(STEERS, "\ufffd");

export const $ = (id) => document.getElementById(id);
export function set(element, text) {
  const shown = plain(text);
  if (element.textContent !== shown) element.textContent = shown;
}
export function made(tag, cls, text) {
  const element = document.createElement(tag);
  if (cls) element.className = cls;
  if (text !== undefined) set(element, text);
  return element;
}
export function button(text, cls, act) {
  const element = made("button", cls, text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}

// One child for each item, found again by its key: what is focused, open or half typed stays as it is.
export function keep(parent, items, key, make, fill) {
  const known = parent.kept ??= new Map(), wanted = new Set();
  let before = null;
  items.forEach((item, index) => {
    const name = key(item, index);
    wanted.add(name);
    let child = known.get(name);
    if (!child) { child = make(item); known.set(name, child); }
    fill(child, item);
    const place = before ? before.nextSibling : parent.firstChild;
    if (place !== child) parent.insertBefore(child, place);
    before = child;
  });
  for (const [name, child] of known) if (!wanted.has(name)) { child.remove(); known.delete(name); }
}

export async function ask(path, terms = {}) {
  const response = await fetch(path, { cache: "no-store", ...terms });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ? answer.error.message : `status ${response.status}`);
  return answer;
}
export const send = (path, method, value) => ask(path, { method, body: JSON.stringify(value) });

export function toast(text) {
  set($("toast"), text);
  $("toast").hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { $("toast").hidden = true; }, 6000);
}

// A canvas as sharp as the screen; its pen, and its size in CSS pixels.
export function pen(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export function spark(context, values, most, across, width, height, ink) {
  if (!values.some((value) => value > 0)) return;
  context.strokeStyle = ink;
  context.lineWidth = 1.25;
  context.lineJoin = "round";
  context.beginPath();
  const step = width / (across - 1), from = width - (values.length - 1) * step;
  values.forEach((value, index) => context.lineTo(from + index * step, height - 1 - (value / most) * (height - 2)));
  context.stroke();
}
