// The gallery: decisions by mouse and keyboard, kept here, downloaded or sent to the server.
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const grid = document.getElementById("grid");
  const store = "cryoetgan-gallery-" + data.key;
  // a page from disk keeps all its decisions here; a served one what the server does not know yet
  const kept = remembered();
  const unsent = data.save ? kept : {};
  const decisions = Object.assign({}, data.decisions, kept);
  const history = [];
  const items = new Map();
  // blind, a bare yes would say nothing of the class: a name is wanted
  const named = data.blind && data.classes.length > 1;
  let last = null;       // id of the box decided last, for shift-click
  let timer = null;

  function remembered() {
    // a file opened from disk may be denied storage: then decisions live as long as the page
    try { return JSON.parse(localStorage.getItem(store)) || {}; } catch (error) { return {}; }
  }
  function remember() {
    try { localStorage.setItem(store, JSON.stringify(data.save ? unsent : decisions)); } catch (error) { return; }
  }
  function make(tag, text, parent, className) {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (className) element.className = className;
    if (parent) parent.appendChild(element);
    return element;
  }

  // ---- boxes -------------------------------------------------------------
  for (const item of data.items) {
    const box = make("div", "", grid, "box");
    box.tabIndex = 0;
    box.dataset.id = item.id;
    const image = make("img", "", box);
    image.src = item.image;
    image.alt = "";
    const line = make("p", "", box);
    item.said = make("span", "", line, "said");
    if (!data.blind) {
      make("span", item.score.toFixed(3), line, "score");
      box.title = `${item.tomogram} ${item.id}`;
    }
    item.box = box;
    items.set(item.id, item);
    box.addEventListener("click", (event) => clicked(item, event));
    show(item);
  }
  function shown() { return [...grid.children].filter((box) => !box.hidden); }
  function itemOf(box) { return items.get(box.dataset.id); }

  function show(item) {
    const said = decisions[item.id];
    item.box.classList.toggle("yes", Boolean(said) && said.accepted === "yes");
    item.box.classList.toggle("no", Boolean(said) && said.accepted === "no");
    const name = said && said.accepted === "yes" ? said.class : item.class;
    const mark = !said ? "" : said.accepted === "yes" ? "✓ " : "✗ ";
    item.said.textContent = mark + (said && said.accepted === "no" ? "rejected" : name || (said ? "accepted" : ""));
    item.box.setAttribute("aria-label", `${item.id}: ${item.said.textContent || "undecided"}`);
  }

  // ---- decisions ---------------------------------------------------------
  function same(a, b) { return (a && a.accepted) === (b && b.accepted) && (a && a.class) === (b && b.class); }
  function decide(list, said) {
    const before = [];
    for (const item of list) {
      const wanted = typeof said === "function" ? said(item) : said;
      if (same(decisions[item.id], wanted)) continue;
      before.push([item.id, decisions[item.id]]);
      put(item, wanted);
    }
    if (before.length) { history.push(before); changed(); }
  }
  function put(item, said) {
    if (said) decisions[item.id] = said; else delete decisions[item.id];
    if (data.save) unsent[item.id] = said || null;
    show(item);
  }
  function undo() {
    const before = history.pop();
    if (!before) return;
    for (const [id, said] of before) put(items.get(id), said);
    focus(items.get(before[0][0]).box);
    changed();
  }
  const yes = (name) => (item) => ({ accepted: "yes", class: name || given(item) });
  const no = { accepted: "no", class: "" };
  function given(item) {
    const said = decisions[item.id];
    return (said && said.accepted === "yes" && said.class) || item.class || "";
  }
  function clicked(item, event) {
    focus(item.box);
    const boxes = shown();
    if (event.shiftKey && last !== null && items.get(last)) {
      const ends = [boxes.indexOf(items.get(last).box), boxes.indexOf(item.box)].sort((a, b) => a - b);
      const like = decisions[last];
      if (ends[0] >= 0) {
        const list = boxes.slice(ends[0], ends[1] + 1).map(itemOf);
        decide(list, !like ? null : like.accepted === "no" ? no : yes(data.blind ? like.class : ""));
      }
      return;
    }
    const said = decisions[item.id];
    if (!named) decide([item], !said ? yes("") : said.accepted === "yes" ? no : null);
    last = item.id;
  }

  // ---- keyboard ----------------------------------------------------------
  // the heading stays above the boxes: what has the focus must not lie behind it
  function room() {
    const head = document.querySelector("header");
    const stays = getComputedStyle(head).position === "sticky";
    grid.style.setProperty("--head", (stays ? head.offsetHeight : 0) + "px");
  }
  window.addEventListener("resize", room);
  function focus(box) { box.focus({ preventScroll: true }); box.scrollIntoView({ block: "nearest" }); }
  function move(by) {
    const boxes = shown();
    const now = boxes.indexOf(document.activeElement);
    const next = boxes[Math.min(Math.max(now + by, 0), boxes.length - 1)];
    if (next) focus(next);
  }
  function perRow() {
    return getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(SELECT|INPUT|BUTTON)$/.test(document.activeElement.tagName)) return;
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow(), ArrowUp: -perRow() };
    const key = event.key;
    if (key in moves) { event.preventDefault(); move(moves[key]); return; }
    if (key === "z") { undo(); return; }
    let box = document.activeElement;
    if (!box.classList.contains("box")) { box = shown()[0]; if (!box) return; focus(box); }
    const item = itemOf(box);
    let said;
    if ((key === "a" || key === "Enter") && !named) said = yes("");
    else if (key === "r" || key === "Delete") said = no;
    else if (key === "u") said = null;
    else if (key >= "1" && key <= "9" && data.classes[Number(key) - 1]) said = yes(data.classes[Number(key) - 1]);
    else return;
    event.preventDefault();
    const boxes = shown();
    const next = boxes[boxes.indexOf(box) + 1];
    decide([item], said);
    last = item.id;
    if (next && key !== "u") focus(next);
  });

  // ---- tools -------------------------------------------------------------
  const tools = document.getElementById("tools");
  function choice(text, options, act) {
    const label = make("label", text, tools);
    const select = make("select", "", label);
    for (const [value, name] of options) make("option", name, select).value = value;
    select.addEventListener("change", act);
    return select;
  }
  function slider(text, low, high, value, act) {
    const label = make("label", text, tools);
    const input = make("input", "", label);
    Object.assign(input, { type: "range", min: low, max: high, step: 0.1 });
    input.value = value;
    input.addEventListener("input", () => act(input.value));
  }
  function button(text, act) {
    const made = make("button", text, tools);
    made.type = "button";
    made.addEventListener("click", () => { act(); made.blur(); });
    return made;
  }
  const distinct = (key) => [...new Set(data.items.map((item) => item[key]))].sort();
  const state = choice("show", [["", "all"], ["open", "undecided"], ["yes", "accepted"], ["no", "rejected"]], arrange);
  let kind = null, tomogram = null, order = null;
  if (!data.blind) {
    kind = choice("class", [["", "all"], ...distinct("class").map((name) => [name, name])], arrange);
    tomogram = choice("tomogram", [["", "all"], ...distinct("tomogram").map((name) => [name, name])], arrange);
    order = choice("order", [["best", "best first"], ["worst", "worst first"], ["class", "by class"]], arrange);
  }
  slider("size", 8, 40, 13, (value) => grid.style.setProperty("--size", value + "rem"));
  slider("contrast", 0.5, 3, 1, (value) => grid.style.setProperty("--contrast", value));
  const undecided = () => shown().map(itemOf).filter((item) => !decisions[item.id]);
  if (!data.blind) {
    button("accept undecided shown", () => decide(undecided(), yes("")));
    button("reject undecided shown", () => decide(undecided(), no));
  }
  button("undo", undo);
  const names = make("span", "", tools, "names");
  data.classes.forEach((name, index) => {
    const made = make("button", "", names);
    made.type = "button";
    if (index < 9) make("b", `${index + 1} `, made);
    made.appendChild(document.createTextNode(name));
    made.addEventListener("mousedown", (event) => event.preventDefault());  // the box keeps the focus
    made.addEventListener("click", () => {
      const box = document.activeElement;
      if (!box.classList.contains("box")) return;
      decide([itemOf(box)], yes(name));
      move(1);
    });
  });

  function arrange() {
    for (const item of data.items) {
      const said = decisions[item.id];
      const now = said ? said.accepted : "open";
      item.box.hidden = Boolean(
        (state.value && state.value !== now) || (kind && kind.value && kind.value !== item.class) ||
        (tomogram && tomogram.value && tomogram.value !== item.tomogram));
    }
    if (order) {
      const by = {
        best: (a, b) => b.score - a.score,
        worst: (a, b) => a.score - b.score,
        class: (a, b) => (a.class < b.class ? -1 : a.class > b.class ? 1 : b.score - a.score),
      }[order.value];
      [...data.items].sort(by).forEach((item) => grid.appendChild(item.box));
    }
    count();
  }
  function count() {
    const all = Object.values(decisions);
    const accepted = all.filter((said) => said.accepted === "yes").length;
    document.getElementById("counts").textContent =
      `${accepted} accepted, ${all.length - accepted} rejected, ${data.items.length - all.length} open`;
    document.getElementById("progress").value = all.length / data.items.length;
  }

  // ---- keeping -----------------------------------------------------------
  const saved = document.getElementById("saved");
  function changed() {
    remember();
    count();
    if (!data.save) return;
    clearTimeout(timer);
    saved.textContent = "saving";
    timer = setTimeout(send, 200);
  }
  // only what changed is sent: a page open elsewhere keeps what was decided there
  function send() {
    const sent = Object.assign({}, unsent);
    fetch(data.save, { method: "POST", body: JSON.stringify(sent) })
      .then((answer) => answer.text().then((text) => {
        if (!answer.ok) throw new Error(text);
        for (const id of Object.keys(sent)) if (unsent[id] === sent[id]) delete unsent[id];
        remember();
        saved.classList.remove("failed");
        saved.textContent = `${text} saved`;
      }))
      .catch((error) => {
        saved.classList.add("failed");
        saved.textContent = `not saved (${error.message}); they are kept here: download them`;
      });
  }
  function csv() {
    const quote = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
    // the download may replace the file, which also holds decisions on boxes of an earlier set
    const all = Object.assign({}, data.others, decisions);
    const rows = Object.entries(all).map(([id, said]) => [id, said.accepted, said.class].map(quote).join(","));
    return ["id,accepted,class", ...rows].join("\n") + "\n";
  }
  document.getElementById("download").addEventListener("click", () => {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = data.name + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
  window.addEventListener("beforeunload", (event) => {
    if (saved.textContent === "saving") event.preventDefault();
  });
  // what another browser remembers may name boxes of an older set
  for (const all of [decisions, unsent]) for (const id of Object.keys(all)) {
    if (!items.has(id)) delete all[id];
    else if (!decisions[id]) delete decisions[id];  // taken back, and the server was not told yet
  }
  arrange();
  room();
  if (Object.keys(unsent).length) changed();
})();
