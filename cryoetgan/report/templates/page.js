// Copy buttons of the tables, and the blind test. The page is complete without them.
"use strict";
(function () {
  function text(table) {
    return [...table.rows].map((row) => [...row.cells]
      .map((cell) => cell.innerText.replace(/\s+/g, " ").trim()).join("\t")).join("\n");
  }
  async function copy(table, button) {
    const content = text(table);
    try {
      await navigator.clipboard.writeText(content);
    } catch (refused) { // no permission, such as inside a frame: the older method
      const area = document.createElement("textarea");
      area.value = content;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy table"; }, 1500);
  }
  for (const table of document.querySelectorAll("table")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "copy table";
    button.title = "Copy this table for a spreadsheet";
    button.addEventListener("click", () => copy(table, button));
    const wide = table.closest("div.wide"); // a scrolling box: the button stays outside it
    (wide || table).after(button);
  }
})();
// blind test: the reader classifies each volume; the score follows at the end
(function () {
  const data = document.getElementById("blind-data");
  if (!data) return;
  const items = JSON.parse(data.textContent);
  const byId = (name) => document.getElementById("blind-" + name);
  const buttons = [byId("real"), byId("synthetic")];
  let index = 0, right = 0, realSeen = 0;

  function show() {
    if (index < items.length) {
      byId("image").src = items[index].image;
      byId("count").textContent = `${index + 1} of ${items.length}`;
      return;
    }
    buttons.forEach((button) => { button.disabled = true; });
    byId("count").textContent = "";
    // 95 % of random guesses are within two standard deviations of one half
    const significant = right >= items.length / 2 + Math.sqrt(items.length);
    byId("score").textContent =
      `Correct: ${right} of ${items.length} (${realSeen} of the real ones). ` +
      (significant ? "This is better than guessing." : "This is within the range of guessing.");
  }
  function grade(real) {
    if (index >= items.length) return;
    if (items[index].real === real) { right += 1; if (real) realSeen += 1; }
    index += 1;
    show();
  }
  buttons[0].addEventListener("click", () => grade(true));
  buttons[1].addEventListener("click", () => grade(false));
  document.getElementById("blind").classList.add("active");
  show();
})();
