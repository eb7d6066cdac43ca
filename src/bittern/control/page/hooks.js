// What became of calls to hooks, and telling one again.

import { $, ask, button, count, date, keep, made, set, toast } from "./words.js";
import { show } from "./dialogs.js";
import { store } from "./store.js";

const EVERY_MS = 2000, COUNTED_EVERY_MS = 15000, AT_MOST = 200;
let timer = 0;

const became = (hook) => {
  const tries = count(hook.attempts, "try", "tries"), exit = hook.exit_status === null ? "" : `, exit status ${hook.exit_status}`;
  if (hook.state === "done") return `told, after ${tries}`;
  if (hook.state === "dead") return `given up after ${tries}${exit}`;
  return hook.attempts ? `waiting after ${tries}${exit}; ${count(hook.retries_left, "retry", "retries")} left` : "waiting";
};

function makeDelivery(one) {
  const item = made("li", "delivery"), more = made("details"), head = made("summary");
  head.append(made("span", "outcome"), made("span", "event"), made("bdi", "whose"), made("time", "dim"));
  more.append(head, made("div", "hooks"));
  item.append(more);
  item.replay = button("Replay", "replay", async () => {
    item.replay.disabled = true;
    try {
      await ask(`/api/v1/deliveries/${one.id}/replay`, { method: "POST" });
      toast("It is told again in a moment.");
      look();
    } catch (error) { toast(error.message); item.replay.disabled = false; }
  });
  item.append(item.replay);
  return item;
}
function fillDelivery(item, one) {
  const [head, hooks] = item.firstChild.children, [outcome, event, whose, at] = head.children;
  item.className = `delivery is-${one.state}`;
  set(outcome, one.state);
  set(event, one.event);
  set(whose, one.name || one.path);
  set(at, date(one.time));
  item.replay.hidden = !store.maySteer || one.state === "pending";
  if (item.was !== one.state) item.replay.disabled = false;
  item.was = one.state;
  item.replay.setAttribute("aria-label", `Replay ${one.event} of ${one.name || one.path}`);
  keep(hooks, one.hooks, (hook, index) => index, () => {
    const box = made("div", "hook");
    box.append(made("code"), made("p"), made("pre"));
    return box;
  }, (box, hook) => {
    const [code, said, output] = box.children;
    set(code, hook.target);
    set(said, became(hook) + (hook.ended ? `, ${date(hook.ended)}` : ""));
    set(output, hook.output);
    output.hidden = !hook.output;
  });
}

function badge(counts) {
  set($("dead-count"), counts.dead ? String(counts.dead) : "");
  $("dead-count").hidden = !counts.dead;
  $("open-hooks").setAttribute("aria-label", counts.dead ? `Hooks, ${counts.dead} dead` : "Hooks");
  $("open-hooks").title = counts.dead ? `${count(counts.dead, "delivery", "deliveries")} given up` : "What became of calls to hooks";
}

async function look() {
  clearTimeout(timer);
  const open = $("hooks").open, state = $("delivery-state").value;
  try {
    const told = await ask(`/api/v1/deliveries?limit=${open ? AT_MOST : 0}${state && open ? `&state=${state}` : ""}`);
    badge(told.counts);
    if (open) {
      set($("delivery-counts"), ["pending", "done", "dead"].map((one) => `${told.counts[one]} ${one}`).join(", "));
      keep($("deliveries"), told.deliveries, (one) => one.id, makeDelivery, fillDelivery);
      $("no-deliveries").hidden = told.deliveries.length > 0;
      $("replay-dead").hidden = !store.maySteer || !told.counts.dead;
      $("outputs").hidden = store.maySteer;
      const held = told.deliveries.length === AT_MOST ? `The newest ${AT_MOST}.` : "";
      set($("delivery-more"), held);
    }
  } catch (error) { if (open) set($("delivery-counts"), error.message); }
  timer = setTimeout(again, $("hooks").open ? EVERY_MS : COUNTED_EVERY_MS);
}
function again() { if (document.hidden) timer = setTimeout(again, EVERY_MS); else look(); }

$("delivery-state").addEventListener("input", look);
$("open-hooks").addEventListener("click", () => { show($("hooks")); look(); });
$("hooks").addEventListener("close", () => { clearTimeout(timer); timer = setTimeout(again, COUNTED_EVERY_MS); });
$("replay-dead").addEventListener("click", async () => {
  try {
    const { deliveries } = await ask("/api/v1/deliveries?state=dead&limit=1000");
    for (const one of deliveries) await ask(`/api/v1/deliveries/${one.id}/replay`, { method: "POST" });
    toast(`${count(deliveries.length, "delivery is", "deliveries are")} told again in a moment.`);
    look();
  } catch (error) { toast(error.message); }
});
export { look };
