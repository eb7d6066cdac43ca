// The map of a torrent's pieces: a square for each, or for several where there are many.

import { $, colour, count, made, pen, set, size } from "./words.js";

const PITCHES = [12, 9, 7, 5];
const HIGH = 320;
// what a square shows is the least of what is in it: one missing piece is not hidden by a hundred that are there
const HAVE = 0, UNDER_WAY = 1, OFFERED = 2, NOWHERE = 3, SKIPPED = 4, UNKNOWN = 5;
const KINDS = [
  [HAVE, "here", "map-have"], [UNDER_WAY, "under way", "map-way"], [OFFERED, "peers have it", "map-offered"],
  [NOWHERE, "no peer has it", "map-nowhere"], [UNKNOWN, "missing", "map-offered"], [SKIPPED, "not wanted", "map-skipped"],
];

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const bit = (field, index) => (field[index >> 3] & (0x80 >> (index & 7))) !== 0;

export function read(told) {
  const have = bytes(told.have), wanted = told.wanted === null ? null : bytes(told.wanted);
  const offered = told.availability === null ? null : bytes(told.availability), way = new Set(told.under_way);
  const kinds = new Uint8Array(told.count), totals = [0, 0, 0, 0, 0, 0];
  let rarest = 255;
  for (let index = 0; index < told.count; index += 1) {
    let kind = UNKNOWN;
    if (bit(have, index)) kind = HAVE;
    else if (wanted && !bit(wanted, index)) kind = SKIPPED;
    else if (way.has(index)) kind = UNDER_WAY;
    else if (offered) kind = offered[index] ? OFFERED : NOWHERE;
    if (offered && kind !== HAVE && kind !== SKIPPED) rarest = Math.min(rarest, offered[index]);
    kinds[index] = kind;
    totals[kind] += 1;
  }
  return { told, kinds, totals, offered, rarest, lacking: told.count - totals[HAVE] - totals[SKIPPED] };
}

export function words(seen) {
  const { told, totals, offered, rarest, lacking } = seen;
  if (!told.count) return "Its pieces are not known yet.";
  const said = [`${totals[HAVE].toLocaleString("en")} of ${count(told.count, "piece", "pieces")} of ${size(told.length)} are here`];
  if (totals[UNDER_WAY]) said.push(`${totals[UNDER_WAY].toLocaleString("en")} under way`);
  if (totals[SKIPPED]) said.push(`${totals[SKIPPED].toLocaleString("en")} not wanted`);
  if (totals[NOWHERE]) said.push(`${totals[NOWHERE].toLocaleString("en")} that no connected peer has`);
  else if (offered && lacking) said.push(`of those that are missing each is at ${count(rarest, "peer", "peers")}${rarest === 255 ? " or more" : ""} at least`);
  return `${said.join("; ")}.`;
}

export function makeMap() {
  const box = made("div", "map"), canvas = made("canvas"), legend = made("ul", "legend");
  canvas.setAttribute("role", "img");
  box.append(made("p", "told"), canvas, legend, made("p", "dim grain"));
  return box;
}

export function drawMap(box, told) {
  const seen = read(told), canvas = box.querySelector("canvas"), wide = Math.floor(box.clientWidth) || 300;
  const [sentence, , legend, grain] = box.children, said = words(seen);
  set(sentence, said);
  canvas.setAttribute("aria-label", `Map of pieces: ${said}`);
  canvas.hidden = !told.count;
  let pitch = PITCHES[0];
  for (pitch of PITCHES) if (Math.ceil(told.count / Math.floor(wide / pitch)) * pitch <= HIGH) break;
  const across = Math.max(1, Math.floor(wide / pitch)), rows = Math.max(1, Math.floor(HIGH / pitch));
  const each = Math.max(1, Math.ceil(told.count / (across * rows)));
  const squares = Math.ceil(told.count / each), high = Math.ceil(squares / across) * pitch;
  canvas.style.width = `${wide}px`;
  canvas.style.height = `${high}px`;
  const context = pen(canvas, wide, high), gap = pitch > 7 ? 2 : 1, inks = [];
  for (const [kind, , name] of KINDS) inks[kind] = colour(name);
  const dense = Math.max(1, Math.min(255, seen.offered ? seen.offered.reduce((most, one) => Math.max(most, one), 0) : 1));
  for (let square = 0; square < squares; square += 1) {
    const from = square * each, until = Math.min(told.count, from + each);
    let kind = SKIPPED, here = 0, offers = 255, wanted = 0;
    const order = [NOWHERE, UNKNOWN, UNDER_WAY, OFFERED, HAVE, SKIPPED];
    for (let index = from; index < until; index += 1) {
      const one = seen.kinds[index];
      if (order.indexOf(one) < order.indexOf(kind)) kind = one;
      here += one === HAVE;
      wanted += one !== SKIPPED;
      if (seen.offered && one === OFFERED) offers = Math.min(offers, seen.offered[index]);
    }
    const x = (square % across) * pitch, y = Math.floor(square / across) * pitch, side = pitch - gap;
    const hole = Math.max(1, Math.round(side / 3));
    context.fillStyle = inks[kind];
    // the more peers have it, the fuller the colour
    context.globalAlpha = kind === OFFERED ? 0.6 + 0.4 * (offers / dense) : 1;
    // told apart by their shape, too: a frame is under way, a dot is nowhere
    if (kind === NOWHERE) context.fillRect(x + hole, y + hole, side - 2 * hole, side - 2 * hole);
    else context.fillRect(x, y, side, side);
    if (kind === UNDER_WAY) context.clearRect(x + hole, y + hole, side - 2 * hole, side - 2 * hole);
    context.globalAlpha = 1;
    if (kind !== HAVE && here) {
      const filled = Math.max(1, Math.round((here / wanted) * side));
      context.fillStyle = inks[HAVE];
      context.fillRect(x, y + side - filled, side, filled);
    }
  }
  legend.replaceChildren(...KINDS.filter(([kind]) => seen.totals[kind]).map(([, what, name]) => {
    const item = made("li");
    item.append(made("span", `swatch ${name}`), made("span", "", what));
    return item;
  }));
  set(grain, each > 1 ? `A square stands for ${each} pieces, filled from below by those that are here.` : "");
  box.dataset.squares = squares;
}
