"use strict";
// Asks once a second how the sorts go, and writes what changed into the page.

const SHOWN_STAGES = 8, EACH_S = 1, QUIET_S = 4, DRAWN_EACH_S = 3, BRIDGED = 8;
const ACTIVE = new Set(["submitted", "queued", "running"]);
const place = id => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");

// --- small things ---

const make = (tag, text, name) => {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  if (name) node.className = name;
  return node;
};
const draw = (tag, about, ...inside) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  Object.entries(about).forEach(([name, value]) => node.setAttribute(name, value));
  node.append(...inside);
  return node;
};
const written = new Map();
const changed = (what, ...facts) => {  // whether something is to be written anew
  const now = JSON.stringify(facts);
  if (written.get(what) === now) return false;
  written.set(what, now);
  return true;
};
const table = (titles, rows) => {  // a title: "#" stands before numbers, "~" before what a narrow page leaves out
  const whole = make("table"), kind = title => [title.includes("#") && "number", title.includes("~") && "spare"];
  const name = title => kind(title).filter(Boolean).join(" "), head = whole.createTHead().insertRow();
  titles.forEach(title => head.append(make("th", title.replace(/[#~]/g, ""), name(title))));
  const body = whole.createTBody();
  rows.forEach(({cells, data = {}, chosen}) => {
    const row = body.insertRow();
    Object.assign(row.dataset, data);
    if (chosen) row.className = "chosen";
    cells.forEach((cell, k) => {
      const where = row.insertCell();
      where.className = [name(titles[k]), cell?.cell].filter(Boolean).join(" ");
      where.append(cell?.node ?? document.createTextNode(cell ?? ""));
    });
  });
  return whole;
};
const time = s => {
  if (s === null || s === undefined) return "";
  if (s < 90) return s.toFixed(s < 10 ? 1 : 0) + " s";
  return s < 5400 ? (s / 60).toFixed(1) + " min" : (s / 3600).toFixed(1) + " h";
};
const count = n => n === undefined || n === null ? "" : n.toLocaleString("en");
const size = mb => mb === null || mb === undefined ? "" : mb < 10000 ? count(mb) + " MB" : (mb / 1000).toFixed(1) + " GB";
const pill = state => ({node: make("span", state, "state " + state)});
const path = text => {
  const inner = make("bdi", text);
  inner.title = text;
  return {node: inner, cell: "path"};
};
const bar = (part, whole) => {
  const outer = make("div", null, "bar"), inner = make("b", null, whole && part > .9 * whole ? "high" : "");
  inner.style.width = whole ? Math.min(100, 100 * part / whole) + "%" : "0";
  outer.append(inner);
  return {node: outer};
};
const chunkMap = runs => {
  const line = make("div", null, "map");
  runs.forEach(([state, cells]) => {
    const run = make("i", null, state);
    run.style.flex = cells;
    run.title = state;
    line.append(run);
  });
  return {node: line, cell: "fills"};
};
const niceStep = (span, most) => {
  const rough = span / most || 1, ten = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map(step => step * ten).find(step => step >= rough);
};
const ticks = (low, high, most) => {
  const step = niceStep(high - low, most), found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) found.push(+at.toFixed(6));
  return found;
};
const depthTick = (um, low, high) => high - low > 1500 ? +(um / 1000).toFixed(2) + " mm" : um + " um";
const timeUnit = whole => whole > 7200 ? [3600, " h"] : whole > 300 ? [60, " min"] : [1, " s"];
const timeTick = (at, whole) => at === 0 ? "0" : +(at / timeUnit(whole)[0]).toFixed(2) + timeUnit(whole)[1];
const timeTicks = whole => ticks(0, whole / timeUnit(whole)[0], 8).map(at => at * timeUnit(whole)[0]);

// --- what a job looks like ---

const showJobs = (jobs, chosen) => {
  if (!changed("jobs", jobs.map(j => [j.id, j.state, j.now, Math.round(j.seconds), j.units, j.spikes]), chosen)) return;
  const rows = jobs.map(j => ({
    cells: [pill(j.state), path(j.out), time(j.recorded_s), count(j.n_channels),
      j.state === "running" && j.now.stage ? `${j.now.stage}, ${j.now.done} of ${j.now.parts}` : "",
      count(j.units), count(j.spikes), time(j.seconds)],
    data: {id: j.id}, chosen: j.id === chosen,
  }));
  place("jobs").replaceChildren(jobs.length
    ? table(["state", "output folder", "#~recording", "#~channels", "~stage, chunks", "#units", "#spikes", "#time"], rows)
    : make("p", "none yet", "quiet"));
};
const STAGE_TITLES = ["stage", "chunks", "#done", "#~running", "#~again", "#~failed", "#time", "#~x real time", "#~left"];
const stageRow = s => ({
  cells: [s.stage, chunkMap(s.map), `${s.done} of ${s.parts}`, s.running || "", s.redone || "", s.failed || "",
    time(s.seconds), s.parts > 1 ? s.x_real_time?.toFixed(1) ?? "" : "", time(s.left_s)],
  data: {stage: s.stage, done: s.done, parts: s.parts},
});
const showStages = stages => {
  if (!changed("stages", stages)) return;
  const latest = stages.slice().reverse(), shown = latest.slice(0, SHOWN_STAGES), rest = latest.slice(SHOWN_STAGES);
  place("stages").replaceChildren(stages.length ? table(STAGE_TITLES, shown.map(stageRow)) : make("p", "none yet", "quiet"));
  const earlier = place("earlier"), odd = rest.filter(s => s.redone || s.failed).length;
  earlier.hidden = !rest.length;
  earlier.querySelector("summary").textContent =
    `${rest.length} earlier stages` + (odd ? `, ${odd} of them with chunks run again or failed` : "");
  earlier.querySelector("div").replaceChildren(table(STAGE_TITLES, rest.map(stageRow)));
};
const showJob = job => {
  place("job").hidden = false;
  if (changed("title", job.out, job.state, job.message)) {
    place("out").textContent = job.out;
    place("state").replaceChildren(pill(job.state).node);
    place("message").textContent = job.message;
    place("message").className = job.state;
  }
  const last = job.stages[job.stages.length - 1], running = job.state === "running" && last && !last.complete;
  const facts = [
    ["stage", running ? last.stage : ""], ["chunks", running ? `${last.done} of ${last.parts}` : ""],
    ["x real time", running && last.parts > 1 ? last.x_real_time?.toFixed(1) ?? ""
      : job.state === "done" && job.stages.every(s => !s.found) ? (job.recorded_s / job.seconds).toFixed(1) : ""],
    ["left of stage", running ? time(last.left_s) : ""],
    ["units", count(job.units)],
    job.spikes === undefined ? ["spikes so far", count(latestCurve(job)?.spikes)] : ["spikes", count(job.spikes)],
    ["recording", time(job.recorded_s)], ["channels", count(job.n_channels)],
    [job.state === "running" ? "running for" : ACTIVE.has(job.state) ? "waiting for" : "took", time(job.seconds)],
  ].filter(([, value]) => value !== "");
  if (changed("facts", facts)) {
    place("facts").replaceChildren(...facts.map(([name, value]) => {
      const both = make("div"), there = make("dd", value);
      there.dataset.fact = name;
      both.append(make("dt", name), there);
      return both;
    }));
  }
  showStages(job.stages);
  if (changed("begun", job.id, job.stages.length > 0)) {
    place("charts").hidden = !job.stages.length;
    redraw();
  }
  if (changed("errors", job.errors)) {
    place("errors").replaceChildren(...job.errors.map(e => make("pre", `${e.stage} ${e.chunk}\n${e.error}`, "error")));
  }
  if (changed("log", job.log)) {
    const log = place("log");
    place("lines").hidden = !job.log.length;
    log.textContent = job.log.join("\n");
    log.scrollTop = log.scrollHeight;
  }
  showCurve(job);
};
const latestCurve = job => job.curves[job.curves.length - 1];

// --- drawings ---

const LEFT = 52, RIGHT = 8, BELOW = 20, ABOVE = 8;
const RAMPS = {
  light: ["#c3cde2", "#8fabd8", "#4f7fc4", "#7443a6", "#c01f5d"], dark: ["#2c3d66", "#4669b8", "#35a79c", "#a8cf4a", "#fff07a"],
};
const ramp = () => RAMPS[dark.matches ? "dark" : "light"];
const mixed = (stops, share) => {
  const at = Math.min(.999, Math.max(0, share)) * (stops.length - 1), k = Math.floor(at), f = at - k;
  const parts = hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)), a = parts(stops[k]), b = parts(stops[k + 1]);
  return `rgb(${a.map((v, i) => Math.round(v + f * (b[i] - v))).join(" ")})`;
};
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const depths = () => {  // of the probe, with room around
  const all = (drawn.channels ?? []).map(c => c[1]), low = all.reduce((a, b) => Math.min(a, b), Infinity);
  const high = all.reduce((a, b) => Math.max(a, b), -Infinity), room = Math.max(10, .04 * (high - low));
  return all.length ? [low - room, high + room] : [0, 1];
};
const moved = (motion, s, um) => {  // displacement of the tissue at a time and depth, linear in between
  const bracket = (all, at) => {
    let k = all.findIndex(v => v >= at);
    if (k < 0) k = all.length - 1;
    const before = Math.max(0, k - 1), span = all[k] - all[before];
    return [before, k, span > 0 ? Math.min(1, Math.max(0, (at - all[before]) / span)) : 0];
  };
  const [t0, t1, ft] = bracket(motion.seconds, s), [d0, d1, fd] = bracket(motion.depth_um, um), by = motion.displacement_um;
  const over = d => by[d][t0] + ft * (by[d][t1] - by[d][t0]);
  return over(d0) + fd * (over(d1) - over(d0));
};
const followed = () => drawn.motion?.seconds && !drawn.motion.why_none ? drawn.motion : null;
const drawMotion = (pen, motion, x, y, moving) => {
  pen.strokeStyle = colour("--text"); pen.lineWidth = 1.2;
  motion.depth_um.forEach((um, k) => {
    pen.beginPath();
    motion.seconds.forEach((s, i) => pen.lineTo(x(s), y(um + (moving ? motion.displacement_um[k][i] : 0))));
    pen.stroke();
  });
};
const showDrift = job => {
  const motion = followed(), moving = motion && place("moving").querySelector("input").checked;
  place("moving").hidden = !motion;
  const canvas = place("drift").querySelector("canvas"), peaks = drawn.peaks ?? {}, n = peaks.seconds?.length ?? 0;
  const w = canvas.clientWidth, h = canvas.clientHeight, dense = devicePixelRatio || 1;
  canvas.width = w * dense; canvas.height = h * dense;
  canvas.dataset.peaks = n;
  const pen = canvas.getContext("2d"), [low, high] = depths(), right = w - RIGHT, bottom = h - BELOW;
  const x = s => LEFT + (right - LEFT) * s / job.recorded_s, y = um => bottom - (bottom - ABOVE) * (um - low) / (high - low);
  pen.scale(dense, dense);
  pen.font = "11px system-ui, sans-serif";
  pen.strokeStyle = colour("--line"); pen.fillStyle = colour("--quiet");
  pen.textAlign = "right"; pen.textBaseline = "middle";
  ticks(low, high, 6).forEach(um => {
    pen.fillText(depthTick(um, low, high), LEFT - 6, y(um));
    pen.beginPath(); pen.moveTo(LEFT, y(um)); pen.lineTo(right, y(um)); pen.stroke();
  });
  pen.textAlign = "center"; pen.textBaseline = "alphabetic";
  timeTicks(job.recorded_s).forEach(s => pen.fillText(timeTick(s, job.recorded_s), Math.min(x(s), right - 12), h - 4));
  const heights = (peaks.height_sd ?? []).slice().sort((a, b) => a - b);
  const least = heights[0], most = heights[Math.floor(.995 * (n - 1))], stops = ramp(), shades = 24;
  const shade = sd => Math.min(shades - 1, Math.max(0, Math.floor(shades * Math.log(sd / least) / Math.log(most / least || 2))));
  const groups = Array.from({length: shades}, () => []);
  for (let i = 0; i < n; i++) groups[shade(peaks.height_sd[i]) || 0].push(i);
  const dot = n > 3000 ? 2 : 2.6;
  groups.forEach((rows, k) => {  // the largest last: they lie on top
    pen.fillStyle = mixed(stops, k / (shades - 1));
    rows.forEach(i => {
      const s = peaks.seconds[i], um = peaks.depth_um[i];
      pen.fillRect(x(s) - dot / 2, y(um + (moving ? moved(motion, s, um) : 0)) - dot / 2, dot, dot);
    });
  });
  if (motion) drawMotion(pen, motion, x, y, moving);
  canvas.dataset.windows = motion?.depth_um.length ?? 0;
  const scale = place("scale"), strip = make("i");
  strip.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  scale.replaceChildren(...(n ? [make("span", Math.round(least)), strip, make("span", Math.round(most) + " sd")] : []));
};
const showProbe = () => {
  const figure = place("probe"), svg = figure.querySelector("svg"), channels = drawn.channels ?? [], units = drawn.units ?? [];
  const w = svg.clientWidth, h = svg.clientHeight, [low, high] = depths(), bottom = h - BELOW;
  const xs = channels.map(c => c[0]), left = xs.reduce((a, b) => Math.min(a, b), Infinity);
  const wide = xs.reduce((a, b) => Math.max(a, b), -Infinity) - left || 1, room = w - LEFT - 34;
  const perY = Math.min((bottom - ABOVE) / (high - low), room / wide), perX = Math.max(perY, .45 * room / wide);
  const x = um => LEFT + 17 + room / 2 + (um - left - wide / 2) * perX;  // a thin probe is drawn wider than it is
  const y = um => (bottom + ABOVE + (high - low) * perY) / 2 - (um - low) * perY;
  const dots = channels.map(([a, b]) => `M${x(a).toFixed(1)} ${y(b).toFixed(1)}h0`).join("");
  const dot = Math.max(1.5, Math.min(5, 60 / Math.sqrt(channels.length || 1)));
  const most = units.reduce((a, u) => Math.max(a, u.height_sd), 1), there = new Map();
  const circles = units.slice().sort((a, b) => b.height_sd - a.height_sd).map(u => {
    const key = u.x_um + " " + u.y_um, k = there.get(key) ?? 0;  // units of one channel lie around it
    there.set(key, k + 1);
    const away = k && 6 * Math.sqrt(k), angle = 2.4 * k, r = (units.length > 150 ? 5 : 9) * Math.sqrt(u.height_sd / most);
    const about = {cx: x(u.x_um) + away * Math.cos(angle), cy: y(u.y_um) + away * Math.sin(angle), r: Math.max(1.5, r)};
    const name = draw("title", {}, `unit ${u.unit}: ${u.height_sd} sd, ${count(u.spikes)} spikes`);
    return draw("circle", {class: "unit", ...about}, name);
  });
  const labels = ticks(low, high, 12 * perY * (high - low) / h).map(um =>
    draw("text", {x: LEFT - 6, y: y(um) + 4, "text-anchor": "end"}, depthTick(um, low, high)));
  svg.replaceChildren(...labels, draw("path", {class: "channels", d: dots, "stroke-width": dot}), ...circles);
  svg.dataset.units = units.length; svg.dataset.channels = channels.length;
  figure.querySelector("figcaption").textContent = units.length
    ? `${count(units.length)} units, area by height` : "Probe: no units yet";
};
const line = (points, x, y) => {  // breaks where nothing is known, but for the blocks that a stage leaves out
  let path = "", last = -Infinity;
  points.forEach((value, i) => {
    if (value === null) return;
    const open = i - last <= BRIDGED;
    path += (open ? "L" : "M") + x(i).toFixed(1) + " " + y(value).toFixed(1) + (open ? "" : "h.5");
    last = i;
  });
  return path;
};
const showCurve = job => {
  const figure = place("curve"), svg = figure.querySelector("svg"), now = latestCurve(job);
  if (!changed("curve", job.curves, svg.clientWidth)) return;
  const w = svg.clientWidth, h = svg.clientHeight, right = w - RIGHT, bottom = h - BELOW;
  const before = job.curves.length > 1 ? job.curves[0] : null, all = [...now?.spikes_per_s ?? [], ...before?.spikes_per_s ?? []];
  const most = all.reduce((a, b) => Math.max(a, b ?? 0), 0) || 1;
  const y = rate => bottom - (bottom - ABOVE) * rate / (1.05 * most);
  const at = curve => i => LEFT + (right - LEFT) * Math.min((i + .5) * curve.bin_s, job.recorded_s) / job.recorded_s;
  const parts = ticks(0, 1.05 * most, 5).flatMap(rate => [
    draw("line", {class: "grid", x1: LEFT, x2: right, y1: y(rate), y2: y(rate)}),
    draw("text", {x: LEFT - 6, y: y(rate) + 4, "text-anchor": "end"}, rate >= 10000 ? rate / 1000 + "k" : rate + ""),
  ]);
  timeTicks(job.recorded_s).forEach(s => {
    const x = LEFT + (right - LEFT) * s / job.recorded_s;
    parts.push(draw("text", {x: Math.min(x, right - 12), y: h - 4, "text-anchor": "middle"}, timeTick(s, job.recorded_s)));
  });
  if (before) parts.push(draw("path", {class: "before", d: line(before.spikes_per_s, at(before), y)}));
  if (now) parts.push(draw("path", {class: "now", d: line(now.spikes_per_s, at(now), y)}));
  svg.replaceChildren(...parts);
  svg.dataset.spikes = now?.spikes ?? 0;
  figure.querySelector("figcaption").textContent = !now ? "Spikes per second: none yet"
    : `Spikes per second: ${now.stage === "sorting" ? "the result" : now.stage}`
      + (before ? `; before, in grey: ${before.stage}` : "");
};

// --- workers, and what watching costs ---

const workerName = w => {
  const whole = make("span", w.name);
  if (w.name !== w.address) whole.append(make("span", ` (${w.address})`, "spare"));
  return {node: whole};
};
const showWorkers = workers => {
  if (!changed("workers", workers)) return;
  const gpu = g => g ? `${g.percent ?? "?"} %, ${size(g.memory_mb)} of ${size(g.limit_mb)}` : "no GPU";
  place("workers").replaceChildren(workers.length ? table(
    ["worker", "~host", "memory", "#used", "#budget", "#CPU", "GPU", "#running", "#~waiting", "~resources"],
    workers.sort((a, b) => a.name.localeCompare(b.name, "en", {numeric: true})).map(w => ({
      cells: [workerName(w), w.host, bar(w.memory_mb, w.limit_mb), size(w.memory_mb),
        w.limit_mb ? size(w.limit_mb) : "none", w.cpu_percent + " %", gpu(w.gpu), w.running, w.waiting,
        Object.entries(w.resources).map(r => r.join(" ")).join(", ")],
      data: {worker: w.address},
    }))) : make("p", "no workers yet", "quiet"));
};
const showWatching = facts => {
  const w = facts.watching, n = facts.workers.length;
  place("about").textContent = `${facts.scheduler}, ${n} worker${n === 1 ? "" : "s"}`;
  place("watching").textContent = `Watching took ${w.cpu_s.toFixed(1)} s of CPU time, the workers computed ${time(w.of_s) || "0 s"}`
    + (w.share === null ? "." : `: ${(100 * w.share).toFixed(2)} %.`);
};

// --- asking ---

let drawn = {}, latest = null, asked = 0, timer = 0, turn = 0;
const ask = async where => {
  const answer = await fetch(where);
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
};
const choose = jobs => {
  const wanted = location.hash.slice(1);
  return (jobs.find(j => j.id === wanted) ?? jobs.find(j => j.state === "running") ?? jobs[0])?.id;
};
const redraw = () => {
  if (!latest) return;
  const xs = (drawn.channels ?? []).map(c => c[0]), [low, high] = depths();
  const wide = xs.reduce((a, b) => Math.max(a, b), -Infinity) - xs.reduce((a, b) => Math.min(a, b), Infinity);
  place("charts").className = wide > (high - low) / 2 ? "broad" : "";
  written.delete("curve");
  showDrift(latest); showProbe(); showCurve(latest);
};
const showDrawn = async job => {  // what is long is asked for only when it is new, and not too often
  const versions = JSON.stringify([job.id, job.versions]), soon = Date.now() - asked < 1000 * DRAWN_EACH_S;
  if (drawn.versions === versions || (drawn.id === job.id && ACTIVE.has(job.state) && soon)) return;
  asked = Date.now();
  const all = await ask(`yass/${job.id}.json`);
  drawn = {id: job.id, versions: JSON.stringify([job.id, all.versions]), peaks: all.peaks, units: all.units,
    channels: all.channels, motion: all.motion};
  redraw();
};
const show = async () => {
  clearTimeout(timer);
  const mine = ++turn;
  let busy = true;
  try {
    let facts = await ask("yass.json?job=" + (latest?.id ?? "-"));
    const chosen = choose(facts.jobs);
    if (chosen && chosen !== latest?.id) facts = await ask("yass.json?job=" + chosen);
    const job = facts.jobs.find(j => j.id === chosen && j.stages);
    showJobs(facts.jobs, chosen);
    showWorkers(facts.workers);
    showWatching(facts);
    if (job) {
      if (drawn.id !== job.id) drawn = {};
      latest = job;
      showJob(job);
      await showDrawn(job);
    }
    busy = facts.jobs.some(j => ACTIVE.has(j.state));
    place("gone").textContent = "";
  } catch (error) {
    place("gone").textContent = "the scheduler does not answer";
    console.error(error);
  }
  if (mine === turn) timer = setTimeout(show, 1000 * (busy && !document.hidden ? EACH_S : QUIET_S));
};
place("jobs").addEventListener("click", event => {
  const row = event.target.closest("tr[data-id]");
  if (row) location.hash = row.dataset.id;
});
addEventListener("hashchange", show);
addEventListener("resize", redraw);
dark.addEventListener("change", redraw);
place("moving").addEventListener("change", redraw);
document.addEventListener("visibilitychange", () => document.hidden || show());
show();
