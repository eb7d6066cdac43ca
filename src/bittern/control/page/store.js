// What is known of the daemon, and who wants to hear when it changes.

export const torrents = new Map();
export const chosen = new Set();
export const store = { session: null, maySteer: false, open: "", line: new Map() };

const ears = {};
export function on(what, act) { (ears[what] ??= []).push(act); }
export function tell(what, value) { for (const act of ears[what] ?? []) act(value); }

export function choose(hashes, yes) {
  for (const hash of hashes) if (yes) chosen.add(hash); else chosen.delete(hash);
  tell("chosen");
}
// whom an action is for: those that are chosen, else the one that is open
export const meant = () => (chosen.size ? [...chosen] : store.open ? [store.open] : []);
export const labelsOf = (torrent) => torrent.labels ?? (torrent.label ? [torrent.label] : []);

// Rates of the last two minutes, of those that move something.
export const SAMPLES = 60;
export function remember(torrent, before) {
  const past = before?.past;
  if (past || torrent.download_rate || torrent.upload_rate) {
    torrent.past = past ?? { down: [], up: [] };
    for (const [way, perS] of [["down", torrent.download_rate], ["up", torrent.upload_rate]]) {
      torrent.past[way].push(perS);
      if (torrent.past[way].length > SAMPLES) torrent.past[way].shift();
    }
    if (!torrent.past.down.some(Boolean) && !torrent.past.up.some(Boolean)) torrent.past = undefined;
  }
}

// Where each stands in the queue, 1 being the first.
export function lineUp() {
  const line = [...torrents.values()].sort((a, b) => b.priority - a.priority || a.rank - b.rank);
  line.forEach((torrent, index) => { torrent.place = index + 1; });
}
