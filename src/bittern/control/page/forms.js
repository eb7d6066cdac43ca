// Forms for limits: made from a list of fields, filled from what holds, and sending only what was changed.

import { button, made, set } from "./words.js";

const tidy = (number) => String(Math.round(number * 1000) / 1000);
// how a figure is shown, and what is sent for what was written
const FIGURES = {
  rate: { unit: "KiB/s", show: (perS) => tidy(perS / 1024), read: (text) => Number(text) * 1024, step: "any" },
  count: { unit: "", show: String, read: Number, step: 1 },
  ratio: { unit: "", show: tidy, read: Number, step: "any" },
  minutes: { unit: "min", show: (seconds) => tidy(seconds / 60), read: (text) => Number(text) * 60, step: "any" },
};
const DAYS = ["Su", "Mo", "Tu", "We", "Th", "Fr", "Sa"];
const clock = (minute) => `${String(Math.floor(minute / 60)).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}`;
const minute = (text) => { const [hours, minutes] = text.split(":").map(Number); return hours * 60 + minutes; };

let made_ = 0;
// A field is { key, label, kind, switch, choices, least }: with `switch` a flag of that key stands before the figure.
// What was set while bittern ran is taken back by sending null.
export function makeForm(groups, { may, submit }) {
  const form = made("form", "limits"), inputs = new Map();
  let only = null;
  async function takeBack(keys) {
    only = keys; // what is written in others, and not saved yet, stays there
    try {
      await submit(Object.fromEntries(keys.map((key) => [key, null])));
      form.say("As the configuration says.");
    } catch (error) { form.say(error.message, true); }
    only = null;
  }
  form.noValidate = false;
  for (const [title, fields] of groups) {
    const group = made("fieldset");
    group.disabled = !may;
    group.append(made("legend", "", title));
    for (const field of fields) group.append(makeField(field, inputs, takeBack));
    form.append(group);
  }
  const said = made("p", "said"), foot = made("p", "foot");
  said.setAttribute("role", "status");
  if (may) {
    const save = made("button", "strong", "Save");
    foot.append(save);
  }
  foot.append(said);
  form.append(foot);
  let before = {}, marks = [];
  form.fill = (values, set_ = []) => {
    before = values;
    marks = set_;
    for (const [key, input] of inputs) {
      if (!only || only.includes(key) || !input.changed()) input.show(values[key]);
      input.mark?.(marks);
    }
  };
  form.say = (text, bad = false) => { set(said, text); said.classList.toggle("danger", bad); };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!may) return;
    const changes = {};
    for (const [key, input] of inputs) if (input.changed()) changes[key] = input.read();
    if (!Object.keys(changes).length) { form.say("Nothing was changed."); return; }
    try {
      await submit(changes, before);
      form.say("Saved.");
    } catch (error) { form.say(error.message, true); }
  });
  return form;
}

function makeField(field, inputs, takeBack) {
  const row = made("div", "field"), id = `field-${made_ += 1}`;
  const label = made("label", "", field.label), own = [field.key, field.switch].filter(Boolean);
  const mark = button("set here ×", "mark", async () => { await takeBack(own); document.getElementById(id).focus(); });
  label.htmlFor = id;
  mark.title = "Set while bittern ran; back to what the configuration says";
  mark.setAttribute("aria-label", `${field.label}: set here; back to what the configuration says`);
  mark.hidden = true;
  const marked = (set_) => { mark.hidden = !own.some((key) => set_.includes(key)); };
  if (field.switch) {
    const box = made("input");
    box.type = "checkbox";
    box.id = `${id}-on`;
    box.setAttribute("aria-label", `${field.label}: limited`);
    let was = false;
    inputs.set(field.switch, {
      show: (value) => { box.checked = was = Boolean(value); }, read: () => box.checked, changed: () => box.checked !== was,
    });
    row.append(box);
  } else row.append(made("span"));
  row.append(label);
  if (field.kind === "flag") {
    const box = made("input");
    box.type = "checkbox";
    box.id = id;
    let was = false;
    inputs.set(field.key, {
      show: (value) => { box.checked = was = Boolean(value); }, read: () => box.checked, changed: () => box.checked !== was, mark: marked,
    });
    row.append(box);
  } else if (field.kind === "choice") {
    const select = made("select");
    select.id = id;
    for (const [value, text] of field.choices) select.append(new Option(text, String(value)));
    let was = "";
    inputs.set(field.key, {
      show: (value) => { select.value = was = String(value); }, changed: () => select.value !== was, mark: marked,
      read: () => field.choices.find(([value]) => String(value) === select.value)[0],
    });
    row.append(select);
  } else if (field.kind === "days") {
    const box = made("span", "days"), days = DAYS.map((name, day) => {
      const one = made("input"), text = made("label", "", name);
      one.type = "checkbox";
      one.id = day ? `${id}-${day}` : id;
      text.htmlFor = one.id;
      const pair = made("span");
      pair.append(one, text);
      box.append(pair);
      return one;
    });
    const bits = () => days.reduce((sum, one, day) => sum | (one.checked ? 1 << day : 0), 0);
    let was = 0;
    inputs.set(field.key, {
      show: (value) => { was = value; days.forEach((one, day) => { one.checked = Boolean(value >> day & 1); }); },
      read: bits, changed: () => bits() !== was, mark: marked,
    });
    row.append(box);
  } else if (field.kind === "clock") {
    const input = made("input");
    // not type=time, which says 5 PM in some languages
    Object.assign(input, { type: "text", required: true, pattern: "([01]?[0-9]|2[0-3]):[0-5][0-9]", title: "Hours and minutes, as 17:30", autocomplete: "off" });
    input.id = id;
    let was = "";
    inputs.set(field.key, {
      show: (value) => { input.value = was = clock(value); }, read: () => minute(input.value), changed: () => input.value !== was, mark: marked,
    });
    row.append(input);
  } else {
    const figure = FIGURES[field.kind], input = made("input"), box = made("span", "figure");
    Object.assign(input, { type: "number", id, min: field.least ?? 0, step: figure.step, required: true, inputMode: "decimal" });
    let was = "";
    inputs.set(field.key, {
      show: (value) => { input.value = was = figure.show(value); }, read: () => figure.read(input.value), changed: () => input.value !== was, mark: marked,
    });
    box.append(input, made("span", "dim", figure.unit));
    row.append(box);
  }
  row.append(mark);
  return row;
}

export const COMMON = [
  ["Rates of all together", [
    { key: "download_rate", switch: "download_limited", label: "Download", kind: "rate" },
    { key: "upload_rate", switch: "upload_limited", label: "Upload", kind: "rate" },
  ]],
  ["Slow mode: other rates, by hand or by the clock", [
    { key: "alt_enabled", label: "On now", kind: "flag" },
    { key: "alt_download_rate", label: "Download", kind: "rate" },
    { key: "alt_upload_rate", label: "Upload", kind: "rate" },
    { key: "alt_scheduled", label: "By the clock", kind: "flag" },
    { key: "alt_begin_minute", label: "From", kind: "clock" },
    { key: "alt_end_minute", label: "Until", kind: "clock" },
    { key: "alt_days", label: "On", kind: "days" },
  ]],
  ["Queue", [
    { key: "max_downloads", switch: "downloads_queued", label: "Downloads at once", kind: "count" },
    { key: "max_seeds", switch: "seeds_queued", label: "Seeds at once", kind: "count" },
    { key: "stalled_after_s", switch: "stalled_noticed", label: "Stalled after", kind: "minutes" },
  ]],
  ["Peers", [
    { key: "max_peers", label: "In all", kind: "count", least: 1 },
    { key: "max_peers_per_torrent", label: "Of one torrent", kind: "count", least: 1 },
  ]],
  ["Seeded until", [
    { key: "seed_ratio", switch: "seed_ratio_limited", label: "Ratio", kind: "ratio" },
    { key: "seed_idle_s", switch: "seed_idle_limited", label: "Idle for", kind: "minutes" },
  ]],
];
const ENDS = [["rules", "as for all"], ["own", "its own"], ["never", "never"]];
export const OWN = [
  ["Rates", [
    { key: "download_rate", switch: "download_limited", label: "Download", kind: "rate" },
    { key: "upload_rate", switch: "upload_limited", label: "Upload", kind: "rate" },
    { key: "heeds_session", label: "Limits for all hold too", kind: "flag" },
    { key: "bandwidth_priority", label: "Its peers' turn comes", kind: "choice", choices: [[1, "more often"], [0, "as others'"], [-1, "less often"]] },
  ]],
  ["Peers", [{ key: "max_peers", label: "At most (0: as any)", kind: "count" }]],
  ["Seeded until", [
    { key: "seed_ratio_mode", label: "By ratio", kind: "choice", choices: ENDS },
    { key: "seed_ratio", label: "Its own ratio", kind: "ratio" },
    { key: "seed_idle_mode", label: "By idle time", kind: "choice", choices: ENDS },
    { key: "seed_idle_s", label: "Its own idle time", kind: "minutes" },
  ]],
];
