"use strict";
(function () {
  // Light and dark: the system's choice until the button is used.
  var root = document.documentElement;
  document.getElementById("theme").addEventListener("click", function () {
    var dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // Values under the pointer. Titles become data so that the browser's own slow tip does not cover ours.
  var tip = document.getElementById("tip");
  var current = null;
  document.querySelectorAll("svg g[pointer-events] > *").forEach(function (spot) {
    var title = spot.querySelector("title");
    if (title) { spot.dataset.tip = title.textContent; title.remove(); }
  });
  function hide() {
    if (current) { current.classList.remove("on"); current = null; }
    tip.classList.remove("shown");
  }
  function show(event) {
    var spot = event.target.closest ? event.target.closest("[data-tip]") : null;
    if (!spot) { hide(); return; }
    if (spot !== current) {
      hide();
      current = spot;
      spot.classList.add("on");
      tip.textContent = spot.dataset.tip;
      tip.classList.add("shown");
    }
    var x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 6);
    var y = event.clientY + 16;
    if (y + tip.offsetHeight > innerHeight - 6) { y = event.clientY - tip.offsetHeight - 12; }
    tip.style.transform = "translate(" + Math.max(6, x) + "px," + Math.max(6, y) + "px)";
  }
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", hide, { passive: true });

  // Tables sort by their headings: numbers by value, the rest by text; empty cells stay last.
  document.querySelectorAll("table.sortable").forEach(function (table) {
    var body = table.tBodies[0];
    table.querySelectorAll("th").forEach(function (head, column) {
      head.querySelector("button").addEventListener("click", function () {
        var up = head.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("th").forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        var numeric = head.classList.contains("n");
        var rows = Array.from(body.rows).map(function (row) {
          var cell = row.cells[column];
          var value = numeric ? parseFloat(cell.dataset.v) : cell.textContent.trim();
          return { row: row, value: value, empty: numeric ? isNaN(value) : value === "" };
        });
        rows.sort(function (a, b) {
          if (a.empty || b.empty) { return a.empty - b.empty; }
          var order = numeric ? a.value - b.value : a.value.localeCompare(b.value, "en", { numeric: true });
          return up ? order : -order;
        });
        rows.forEach(function (entry) { body.appendChild(entry.row); });
      });
    });
  });
})();
