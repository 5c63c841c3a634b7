// The dashboard: a client of the service's public endpoints, without any library.

const EVERY_MS = 2000;
const DECISIONS = 20;
const DENSE_FROM = 200;
const HOSTS_SHOWN = 5000;

const $ = (id) => document.getElementById(id);
const state = { token: sessionStorage.getItem("token"), hosts: [], chosen: null, opened: new Map() };

class Refused extends Error {}

async function ask(path) {
  const headers = state.token ? { authorization: `Bearer ${state.token}` } : {};
  const response = await fetch(path, { headers, cache: "no-store" });
  if (response.status === 401 || response.status === 403) throw new Refused(path);
  // 404: the service was started without that part; 409: there is no fleet yet.
  if (response.status === 404 || response.status === 409) return null;
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (key === "style") node.style.cssText = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function drawn(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const number = (value, digits = 3) =>
  value === null || value === undefined || !Number.isFinite(value)
    ? "–"
    : new Intl.NumberFormat("en", { maximumSignificantDigits: digits }).format(value);
const percent = (value) => (Number.isFinite(value) ? `${number(100 * value)} %` : "–");
const micros = (seconds) => (Number.isFinite(seconds) ? 1e6 * seconds : undefined);
const share = (value) => Math.min(1, Math.max(0, value || 0));

// Now

function tiles(fleet, latest) {
  const found = [];
  const tile = (name, value, unit) =>
    found.push(element("div", {}, element("dt", {}, name), element("dd", {}, value, unit ? element("small", {}, ` ${unit}`) : null)));
  if (fleet) {
    const { totals } = fleet;
    const all = Object.values(totals.hosts).reduce((sum, count) => sum + count, 0);
    tile("hosts on", `${number(totals.hosts.on || 0, 6)}`, `of ${number(all, 6)}`);
    tile("utilization", percent(totals.utilization));
    tile("requests", number(totals.requests, 6), `${number(totals.waiting, 6)} waiting`);
    tile("power", number(totals.power_w, 4), "W");
    tile("price", number(totals.price_usd_per_hour, 3), "USD/h");
    if (totals.migrations) tile("migrations", number(totals.migrations, 6));
  }
  if (latest) {
    tile("decisions", number(latest.decisions_per_s, 3), "/s");
    tile("median time to decide", number(micros(latest.decision_p50_s), 3), "µs");
    tile("99th percentile", number(micros(latest.decision_p99_s), 3), "µs");
    tile("fallbacks", number(latest.fallbacks, 6), "in all");
    tile("refused", number(latest.rejected, 6), "in all");
  }
  $("tiles").replaceChildren(...found);
}

// Hosts

function hosts(fleet) {
  $("no-fleet").hidden = Boolean(fleet);
  $("hosts-controls").hidden = $("legend").hidden = !fleet;
  if (!fleet) return $("hosts").replaceChildren();
  state.hosts = fleet.hosts.map((host, position) => ({ ...host, position }));
  const filter = {
    all: () => true,
    serving: (host) => host.lifecycle === "on" || host.lifecycle === "draining",
    off: (host) => host.lifecycle === "off",
    busy: (host) => host.queued > 0,
  }[$("host-filter").value];
  const sort = {
    position: (a, b) => a.position - b.position,
    utilization: (a, b) => b.utilization - a.utilization || a.position - b.position,
    queue: (a, b) => b.queued - a.queued || a.position - b.position,
  }[$("host-sort").value];
  const chosen = state.hosts.filter(filter).sort(sort);
  const list = $("hosts");
  list.classList.toggle("dense", chosen.length > DENSE_FROM);
  const shown = chosen.slice(0, HOSTS_SHOWN);
  $("hosts-shown").textContent = `${number(shown.length, 6)} of ${number(state.hosts.length, 6)}`;
  const focused = document.activeElement?.dataset?.host;
  list.replaceChildren(...shown.map(cell));
  if (focused !== undefined) list.querySelector(`[data-host="${focused}"]`)?.focus();
  detail();
}

function cell(host) {
  const text = `${host.lifecycle}, ${percent(host.utilization)}, ${host.running} running, ${host.queued} queued`;
  const button = element(
    "button",
    {
      type: "button",
      class: host.lifecycle,
      style: `--heat: ${share(host.utilization)}`,
      title: `${host.name}: ${text}`,
      "aria-label": `${host.name}: ${text}`,
      "aria-pressed": String(state.chosen === host.position),
      "data-host": host.position,
    },
    element("b", {}, host.name),
    element("span", {}, host.lifecycle === "off" ? "off" : percent(host.utilization)),
    element("span", {}, host.queued ? `${host.running} + ${host.queued} queued` : `${host.running} running`),
  );
  button.addEventListener("click", () => {
    state.chosen = state.chosen === host.position ? null : host.position;
    for (const other of $("hosts").querySelectorAll("button"))
      other.setAttribute("aria-pressed", String(Number(other.dataset.host) === state.chosen));
    detail();
  });
  return element("li", {}, button);
}

function detail() {
  const host = state.hosts.find((other) => other.position === state.chosen);
  $("host-detail").hidden = !host;
  if (!host) return;
  const ram = host.ram_mib - host.ram_free_mib;
  $("host-detail").textContent =
    `${host.name} (${host.size}, ${host.site}): ${host.lifecycle}, ${percent(host.utilization)} of its CPU, ` +
    `${number(ram, 4)} of ${number(host.ram_mib, 6)} MiB, ${host.running} running, ${host.queued} queued, ` +
    `${number(host.power_w, 4)} W, ${number(host.price_usd_per_hour, 3)} USD/h`;
}

// Over time

const CHARTS = [
  { title: "Power of the fleet, W", series: [["power", "power_w"]] },
  { title: "Price, USD/h", series: [["price", "price_usd_per_hour"]] },
  { title: "Utilization of measured hosts", series: [["observed", "observed_utilization"], ["predicted", "predicted_utilization"]], top: 1 },
  { title: "Power of a measured host, W", series: [["observed", "observed_host_power_w"], ["predicted", "predicted_host_power_w"]] },
  { title: "Response time, s", series: [["observed", "observed_response_s"], ["predicted", "predicted_response_s"]] },
  { title: "Requests", series: [["under way", "requests"], ["waiting", "waiting"]] },
  { title: "Share of late requests", series: [["share", "late_ratio"]], top: 1 },
  { title: "Decisions per second", series: [["decisions", "decisions_per_s"]] },
  { title: "Time to decide, µs", series: [["median", "decision_p50_us"], ["99th percentile", "decision_p99_us"]] },
];
const WIDTH = 360, HEIGHT = 130, LEFT = 44, BOTTOM = 18;

function charts(history) {
  const samples = (history?.samples ?? []).map((sample) => ({
    ...sample,
    ...sample.fleet,
    decision_p50_us: micros(sample.decision_p50_s),
    decision_p99_us: micros(sample.decision_p99_s),
  }));
  $("no-history").hidden = samples.length > 1;
  const known = (key) => samples.some((sample) => Number.isFinite(sample[key]));
  const found = samples.length > 1 ? CHARTS.filter((chart) => chart.series.some(([, key]) => known(key))) : [];
  $("charts").replaceChildren(...found.map((chart) => figure(chart, samples, known)));
}

function figure(chart, samples, known) {
  const series = chart.series.filter(([, key]) => known(key));
  const values = series.flatMap(([, key]) => samples.map((sample) => sample[key]).filter(Number.isFinite));
  const top = Math.max(chart.top ?? 0, ...values) || 1;
  const [from, until] = [samples[0].at_s, samples.at(-1).at_s];
  const x = (at) => LEFT + ((at - from) / (until - from || 1)) * (WIDTH - LEFT - 4);
  const y = (value) => 6 + (1 - value / top) * (HEIGHT - BOTTOM - 6);
  const label = `${chart.title}: ${series.map(([name, key]) => `${name} ${number(samples.at(-1)[key])}`).join(", ")}`;
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const tick of [0, 0.5, 1]) {
    svg.append(drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - 4, y1: y(tick * top), y2: y(tick * top) }));
    const text = drawn("text", { x: LEFT - 5, y: y(tick * top) + 4, "text-anchor": "end" });
    text.textContent = number(tick * top);
    svg.append(text);
  }
  for (const [at, anchor] of [[from, "start"], [until, "end"]]) {
    const text = drawn("text", { x: x(at), y: HEIGHT - 3, "text-anchor": anchor });
    text.textContent = new Date(at * 1000).toLocaleTimeString("en-GB");
    svg.append(text);
  }
  series.forEach(([, key], index) => {
    // A gap in what is known is a gap in the line.
    let points = [];
    const flush = () => {
      if (points.length) svg.append(drawn("polyline", { class: `c${index}`, points: points.join(" ") }));
      points = [];
    };
    for (const sample of samples)
      if (Number.isFinite(sample[key])) points.push(`${x(sample.at_s).toFixed(1)},${y(sample[key]).toFixed(1)}`);
      else flush();
    flush();
  });
  const caption = element("figcaption", {}, chart.title);
  if (series.length > 1)
    series.forEach(([name], index) => caption.append(" ", element("span", {}, element("i", { class: `c${index}` }), name)));
  return element("figure", {}, caption, svg);
}

// Predicted against observed

function drift(report) {
  const rows = Object.entries(report?.overall ?? {}).filter(([, errors]) => errors.count > 0);
  $("no-drift").hidden = rows.length > 0;
  if (!rows.length) return $("drift").replaceChildren();
  const body = rows.map(([name, errors]) =>
    element("tr", {},
      element("td", {}, `${name.replaceAll("_", " ")} (${report.units[name]})`),
      element("td", {}, number(errors.count, 6)),
      element("td", {}, number(errors.bias)),
      element("td", {}, number(errors.mean_absolute_error)),
      element("td", { class: errors.alarms ? "worse" : null }, number(errors.alarms, 6)),
    ));
  const alarms = report.alarms.slice(-5).reverse().map((alarm) => {
    const where = alarm.host === undefined ? "the fleet" : state.hosts[alarm.host]?.name ?? `host ${alarm.host}`;
    return element("li", {}, `${alarm.quantity.replaceAll("-", " ")} of ${where}: ${alarm.test} ${number(alarm.statistic)} over ${number(alarm.threshold)}, off by ${number(alarm.effect)}`);
  });
  $("drift").replaceChildren(
    table(["", "compared", "bias", "mean absolute error", "alarms"], body),
    alarms.length ? element("ul", {}, ...alarms) : "",
  );
}

function table(head, rows) {
  return element("div", { class: "scroll" },
    element("table", {},
      element("thead", {}, element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name)))),
      element("tbody", {}, ...rows)));
}

// Policy and shadow

function models(document) {
  if (!document) return $("models").replaceChildren(element("p", { class: "empty" }, "The service holds one policy."));
  const rows = document.models.map((model) =>
    element("tr", {},
      element("td", {}, model.name),
      element("td", {}, (model.roles ?? [model.role]).filter(Boolean).join(", ") || "loaded"),
      element("td", {}, model.sha256 ? element("code", {}, model.sha256.slice(0, 12)) : "built in"),
      element("td", {}, model.facts?.world ?? "any world"),
    ));
  const parts = [table(["policy", "role", "weights", "trained for"], rows)];
  const compared = document.comparison;
  if (compared?.compared) {
    const gain = compared.gain_s;
    const verdict = !gain?.ci95_low ? "" : gain.ci95_low > 0 ? "better" : gain.ci95_high < 0 ? "worse" : "";
    parts.push(element("p", {},
      `Shadow against active: ${number(compared.compared, 6)} decisions compared, the same in ${percent(compared.agreement_ratio)}; the shadow's penalty is lower by `,
      element("b", { class: verdict }, estimate(gain), " s"),
      compared.total_dropped ? `; ${number(compared.total_dropped, 6)} were not compared for want of time.` : "."));
  }
  $("models").replaceChildren(...parts);
}

const estimate = (value) =>
  !value ? "–" : Number.isFinite(value.ci95_low) && value.ci95_low !== null
    ? `${number(value.mean)} [${number(value.ci95_low)}, ${number(value.ci95_high)}]`
    : number(value.mean);

// Decisions

function decisions(listed) {
  const items = listed?.decisions ?? [];
  $("no-decisions").hidden = items.length > 0;
  const open = new Set([...$("decisions").querySelectorAll("details[open]")].map((node) => node.dataset.id));
  $("decisions").replaceChildren(...items.map((item) => decision(item, open.has(item.id))));
}

function decision(item, open) {
  const response = item.response;
  const node = element("details", { "data-id": item.id },
    element("summary", {},
      element("time", { datetime: item.at }, new Date(item.at).toLocaleTimeString("en-GB")),
      element("span", { class: "what" }, summary(response?.decision)),
      response?.fallback ? element("span", { class: "badge", title: response.fallback_reason ?? "" }, "fallback") : null,
      element("span", { class: "how" }, `${item.policy}, ${number(response?.decision_time_us)} µs`)),
    element("div", {}, state.opened.get(item.id) ?? "…"));
  node.addEventListener("toggle", () => node.open && explain(item.id, node.lastElementChild));
  node.open = open;
  return element("li", {}, node);
}

function summary(decided) {
  if (!decided) return "a long decision";
  const name = (position) => state.hosts[position]?.name ?? `host ${position}`;
  const few = (list, text) => list.length === 0 ? null : list.length <= 3 ? list.map(text).join(", ") : `${list.slice(0, 2).map(text).join(", ")} and ${list.length - 2} more`;
  const parts = [
    few(decided.provisioning.filter((action) => action.on), (action) => `${name(action.host)} on`),
    few(decided.provisioning.filter((action) => !action.on), (action) => `${name(action.host)} off`),
    few(decided.deployments, (one) => `request ${one.request}: ${one.variant} on ${[...new Set(one.hosts)].map(name).join(", ")}`),
    few(decided.migrations ?? [], (move) => `request ${move.request} to ${name(move.to_host)}`),
  ].filter(Boolean);
  return parts.join("; ") || "change nothing";
}

async function explain(id, place) {
  if (state.opened.has(id)) return place.replaceChildren(state.opened.get(id));
  try {
    const found = await ask(`/v1/explain/${encodeURIComponent(id)}`);
    const node = found ? explanation(found) : element("p", { class: "empty" }, "The state of this decision is not kept any more.");
    state.opened.set(id, node);
    if (state.opened.size > 200) state.opened.delete(state.opened.keys().next().value);
    place.replaceChildren(node);
  } catch (error) {
    place.replaceChildren(element("p", { class: "problem" }, `It could not be explained: ${error.message}`));
  }
}

const SHOWN = [["energy_j", "energy, J"], ["cost_usd", "cost, USD"], ["response_mean_s", "mean response, s"], ["sla_violation_ratio", "SLA violations"], ["objective", "objective"]];

function prices(rows) {
  const body = rows.filter(([, qos]) => qos).map(([name, qos]) =>
    element("tr", {}, element("td", {}, name), ...SHOWN.map(([key]) => element("td", {}, estimate(qos[key])))));
  return body.length ? table(["expected change", ...SHOWN.map(([, name]) => name)], body) : "";
}

function explanation(found) {
  const node = element("div", {});
  if (found.fallback_reason) node.append(element("p", { class: "problem" }, found.fallback_reason));
  node.append(prices([["the decision against doing nothing", found.against_nothing]]));
  for (const action of found.actions) {
    node.append(element("h3", {}, describe(action)));
    const rows = [["against leaving it out", action.against_without]];
    for (const choice of action.choices ?? [])
      rows.push([`${choice.given ?? "none"} against ${choice.runner_up ?? "nothing else"}`, choice.against_runner_up]);
    node.append(prices(rows));
    const excluded = (action.excluded ?? []).map((one) => element("li", {}, exclusion(one)));
    if (excluded.length) node.append(element("ul", { class: "soft" }, ...excluded));
  }
  if (!found.actions.length) node.append(element("p", {}, "Nothing was changed."));
  node.append(element("p", { class: "soft" }, `Priced on ${number(found.futures, 6)} futures of the twin.`));
  return node;
}

function describe(action) {
  const name = (position) => state.hosts[position]?.name ?? `host ${position}`;
  if (action.variant) return `request ${action.request}: ${action.variant} on ${action.hosts.map(name).join(", ")}`;
  if (action.to_host !== undefined) return `request ${action.request}, fragment ${action.fragment}: to ${name(action.to_host)}`;
  if (action.host !== undefined) return `${name(action.host)} ${action.on ? "on" : "off"}`;
  return "action";
}

function exclusion(one) {
  const name = (position) => state.hosts[position]?.name ?? `host ${position}`;
  const listed = one.hosts?.slice(0, 4).map(name) ?? [];
  const more = (one.host_count ?? listed.length) - listed.length;
  const what = [...listed, ...(one.variants ?? [])].join(", ") + (more > 0 ? ` and ${more} more` : "");
  return `${String(one.reason).replaceAll("-", " ")}: ${what}`;
}

// The loop

async function refresh() {
  const [health, fleet, history, report, held, listed] = await Promise.all([
    ask("/healthz"), ask("/v1/fleet?view=summary"), ask("/v1/history"), ask("/v1/fleet/drift"),
    ask("/v1/models"), ask(`/v1/decisions?limit=${DECISIONS}`),
  ]);
  $("sign-in").hidden = true;
  $("main").hidden = false;
  $("world").textContent = health?.world ?? "";
  $("policy").textContent = health ? `${health.policy}${health.model_sha256 ? ` ${health.model_sha256.slice(0, 12)}` : ""}` : "";
  document.title = health ? `infer: ${health.world}` : "infer";
  tiles(fleet, history?.samples?.at(-1));
  hosts(fleet);
  charts(history);
  drift(report);
  models(held);
  decisions(listed);
}

function status(name, text) {
  if ($("status").textContent === text) return;
  $("status").dataset.state = name;
  $("status").textContent = text;
}

async function loop() {
  if (!document.hidden) {
    try {
      await refresh();
      status("live", "live");
    } catch (error) {
      if (error instanceof Refused) {
        $("sign-in").hidden = false;
        $("main").hidden = true;
        if (state.token) $("sign-in-problem").textContent = "This token is not accepted, or may not read.";
        status("lost", "not signed in");
        return;
      }
      status("lost", "no answer from the service; trying again");
    }
  }
  setTimeout(loop, EVERY_MS);
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = $("token").value.trim();
  sessionStorage.setItem("token", state.token);
  loop();
});
for (const id of ["host-filter", "host-sort"]) $(id).addEventListener("change", () => refresh().catch(() => {}));
loop();
