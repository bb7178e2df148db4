"use strict";

const EVERY_MS = 1000;
const POINTS = 60;
const TONES = {
  ready: "good", scaledToZero: "cold", error: "bad", unhealthy: "bad", lost: "bad",
  starting: "busy", draining: "busy", asleep: "cold",
};
const WORDS = { scaledToZero: "at zero", waitingForBuild: "waiting", configuringResources: "starting" };
const COLUMNS = 12; // of the table of functions
const history = new Map();
const unfolded = new Set(); // functions whose whole reason is shown
let timer = 0; // of the next refresh
const byId = (id) => document.getElementById(id);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function cell(text, className) {
  return element("td", className, text);
}

function pill(state) {
  const tone = TONES[state] || "busy";
  return element("span", `pill ${tone}`, WORDS[state] || state);
}

function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (bytes >= 1024 && step < units.length - 1) { bytes /= 1024; step += 1; }
  return `${step ? bytes.toFixed(1) : bytes} ${units[step]}`;
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min`;
  if (value < 86400) return `${Math.floor(value / 3600)} h`;
  return `${Math.floor(value / 86400)} d`;
}

function ago(epoch) {
  return epoch ? `${seconds(Math.max(0, Date.now() / 1000 - epoch))} ago` : "–";
}

function rate(value) {
  if (value === null || value === undefined) return "–";
  return `${value >= 100 ? Math.round(value) : value.toFixed(1)}/s`;
}

function errors(share) {
  if (share === null || share === undefined) return cell("–", "num");
  const text = share && share < 0.01 ? "<1%" : `${Math.round(share * 100)}%`;
  return cell(text, !share ? "num" : share < 0.05 ? "num warn" : "num fail");
}

function spark(name, value) {
  const points = history.get(name) || [];
  points.push(value || 0);
  if (points.length > POINTS) points.shift();
  history.set(name, points);
  const top = Math.max(...points, 0.1);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const from = POINTS - points.length;
  line.setAttribute("points", points.map((y, x) => `${from + x},${19 - (y / top) * 18}`).join(" "));
  svg.append(line);
  return svg;
}

function replicaDots(counts, most) {
  const dots = element("span", "dots");
  const shown = Math.min(most, 12);
  const kinds = [["ready", "good"], ["starting", "busy"], ["asleep", "cold"], ["draining", "cold"]];
  let drawn = 0;
  for (const [phase, tone] of kinds) {
    for (let i = 0; i < counts[phase] && drawn < 12; i += 1, drawn += 1) dots.append(element("i", tone));
  }
  for (; drawn < shown; drawn += 1) dots.append(element("i", ""));
  return dots;
}

function functionRow(f) {
  const row = element("tr");
  const name = cell(undefined, "name");
  const link = element("a", "", f.name);
  link.href = f.url;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  name.append(link, element("small", "", f.project));
  const state = cell();
  state.append(pill(f.shownState));
  const moving = f.servingRevision && f.servingRevision !== f.revision;
  const tried = f.canary && `${f.servingRevision} + ${f.canary.revision} (${+(100 * f.canary.share).toFixed(1)} %)`;
  const revision = tried || (moving ? `${f.servingRevision} → ${f.revision}` : `${f.revision}`);
  const replicas = cell();
  replicas.append(replicaDots(f.replicas, f.maxReplicas), `${f.replicas.ready} of ${f.maxReplicas}`);
  const traffic = cell(undefined, "rate");
  const inner = element("div");
  inner.append(spark(f.name, f.ratePerS), element("span", "", rate(f.ratePerS)));
  traffic.append(inner);
  row.append(
    name, state, cell(revision, "num"), replicas, cell(f.requests.toLocaleString(), "num"), traffic,
    errors(f.errorShare),
    cell(f.inFlight, "num"), cell(f.waiting, f.waiting ? "num warn" : "num"),
    cell(f.coldStarts, "num"), cell(seconds(f.wakeP90S), "num"), cell(ago(f.lastActive), "num"),
  );
  return row;
}

// Only what is wrong is red; a function that sleeps, or lacks something for its largest requests, is well.
function reasonTone(f) {
  if (TONES[f.state] === "bad") return "bad";
  if (f.state === "waitingForScaleResourceFromZero") return "busy";
  return f.state === "ready" || f.shownState === "asleep" ? "well" : "";
}

// On a row of its own, which wraps: a phone has no room beside the name and no pointer for a title.
function reasonRow(f) {
  const message = (f.message || "").trim();
  const tone = reasonTone(f);
  if (!message || !tone) return [];
  const last = message.split("\n").pop();
  let why = element("div", `why ${tone}`, last);
  if (last !== message) {
    why = element("details", `why ${tone}`);
    why.open = unfolded.has(f.name);
    why.addEventListener("toggle", () => {
      if (why.open) unfolded.add(f.name);
      else unfolded.delete(f.name);
    });
    why.append(element("summary", "", last), element("pre", "", message));
  }
  const row = element("tr", "reason");
  const whole = cell();
  whole.colSpan = COLUMNS;
  whole.append(why);
  row.append(whole);
  return [row];
}

function queueRows(stream) {
  return (stream.groups.length ? stream.groups : [null]).map((group, index) => {
    const row = element("tr");
    const name = cell(undefined, "name");
    name.append(element("b", "", index ? "" : stream.name));
    if (!index) name.append(element("small", "", `${stream.shards} ${stream.shards === 1 ? "shard" : "shards"}`));
    const readers = cell(group ? group.functions.join(", ") || "nobody" : "nobody");
    if (group) readers.append(element("small", "", group.name));
    const dead = group && group.dead ? "num fail" : "num";
    row.append(
      name, readers,
      cell(group ? group.lag.toLocaleString() : "–", group && group.lag ? "num warn" : "num"),
      cell(group ? group.pending.toLocaleString() : "–", "num"),
      cell(group ? group.dead.toLocaleString() : "–", dead),
      cell(index ? "" : stream.records.toLocaleString(), "num"), cell(index ? "" : size(stream.bytes), "num"),
    );
    return row;
  });
}

function workerRow(replica, worker) {
  const row = element("tr");
  const state = cell();
  state.append(pill(replica.phase === "draining" ? "draining" : worker.phase));
  row.append(
    cell(replica.id), cell(replica.function), cell(replica.revision, "num"), cell(worker.index, "num"),
    cell(worker.pid || "–", "num"), state, cell(worker.devices.join(", ") || "CPU"),
    cell(size(worker.pssBytes ?? worker.rssBytes), "num"),
    cell(worker.startedAt ? seconds(Date.now() / 1000 - worker.startedAt) : "–", "num"),
  );
  return row;
}

function deviceRow(device) {
  const row = element("div", device.lost ? "device lost" : "device");
  const name = element("div", "name");
  const kind = [device.name, device.kind, device.capability].filter(Boolean).join(" · ");
  name.append(element("b", "", device.id.split("-").slice(0, 2).join("-")), element("small", "", kind));
  name.title = device.id;
  const bar = element("div", "bar");
  let room = 100;
  for (const [bytes, tone] of [[device.promised_bytes, ""], [device.foreign_bytes, "foreign"]]) {
    const part = element("i", tone);
    const width = Math.min(room, (bytes / Math.max(1, device.total_bytes)) * 100);
    part.style.width = `${width}%`;
    room -= width;
    bar.append(part);
  }
  const facts = element("div", "facts");
  const shown = [
    ["promised", size(device.promised_bytes)], ["foreign", size(device.foreign_bytes)],
    ["used", device.lost ? "–" : size(device.used_bytes)], ["of", size(device.total_bytes)],
    ["busy", device.utilisation === null ? "–" : `${Math.round(device.utilisation * 100)} %`],
    ["replicas", device.replicas.length],
  ];
  for (const [label, value] of shown) {
    const fact = element("span", "", `${label} `);
    fact.append(element("b", "", value));
    facts.append(fact);
  }
  const middle = element("div");
  middle.append(bar, facts);
  row.append(name, middle, pill(device.lost ? "lost" : "ready"));
  return row;
}

function tiles(functions) {
  const sum = (pick) => functions.reduce((total, f) => total + (pick(f) || 0), 0);
  const shown = [
    ["Functions", functions.length],
    ["Warm replicas", sum((f) => f.replicas.ready)],
    ["Requests / s", rate(sum((f) => f.ratePerS))],
    ["In flight", sum((f) => f.inFlight)],
    ["Waiting", sum((f) => f.waiting)],
    ["Cold starts", sum((f) => f.coldStarts)],
  ];
  return shown.map(([label, value]) => {
    const tile = element("div", label === "Waiting" && value ? "tile hot" : "tile");
    tile.append(element("b", "", value), element("span", "", label));
    return tile;
  });
}

// What somebody is about to copy stays as it is: drawn anew, it would be selected no more.
function fill(id, rows) {
  const place = byId(id), chosen = document.getSelection();
  if (chosen && !chosen.isCollapsed && chosen.containsNode(place, true)) return;
  place.replaceChildren(...rows);
}

function draw(top, replicas, streams) {
  byId("version").textContent = top.version;
  fill("tiles", tiles(top.functions));
  fill("functions", top.functions.flatMap((f) => [functionRow(f), ...reasonRow(f)]));
  byId("no-functions").hidden = top.functions.length > 0;
  byId("queues-section").hidden = streams.length === 0;
  fill("queues", streams.flatMap(queueRows));
  byId("devices-section").hidden = top.devices.length === 0;
  fill("devices", top.devices.map(deviceRow));
  const workers = replicas.flatMap((r) => r.workers.map((w) => workerRow(r, w)));
  fill("workers", workers);
  byId("no-workers").hidden = workers.length > 0;
  if (top.leading) health("running", "good");
  else health("no controller", "bad");
}

function health(text, tone) {
  const place = byId("health");
  place.textContent = text;
  place.className = `pill ${tone}`;
}

async function ask(path) {
  const key = sessionStorage.getItem("stoker-key");
  const reply = await fetch(path, { headers: key ? { "X-API-Key": key } : {} });
  byId("key-form").hidden = reply.status !== 401;
  if (reply.status === 401) throw new Error("a key is needed");
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.error?.message || body.error || `status ${reply.status}`);
  return body;
}

async function refresh() {
  try {
    const paths = ["/api/stoker/top", "/api/stoker/ps", "/api/streams"];
    const [top, ps, queues] = await Promise.all(paths.map(ask));
    draw(top, ps.replicas, queues.streams);
  } catch (error) {
    health(error instanceof TypeError ? "not reachable" : error.message, "bad");
  }
  clearTimeout(timer); // each key that is tried would else ask once a second for ever
  timer = setTimeout(refresh, document.hidden ? EVERY_MS * 5 : EVERY_MS);
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("stoker-key", byId("key").value);
  byId("key").value = "";
  refresh();
});
refresh();
