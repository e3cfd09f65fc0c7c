// Brings what changes on a page, and keeps a form from being sent twice. Everything works without.
(function () {
  "use strict";

  var board = document.getElementById("board");
  var seconds = board ? Number(board.dataset.refresh || 0) : 0;

  function isInUse() {
    var selection = window.getSelection();
    return document.hidden || board.contains(document.activeElement) ||
      (selection !== null && !selection.isCollapsed && board.contains(selection.anchorNode));
  }

  function again() {
    if (seconds > 0) { window.setTimeout(look, seconds * 1000); }
  }

  function put(page) {
    var fresh = new DOMParser().parseFromString(page, "text/html").getElementById("board");
    if (fresh === null || isInUse()) { return; }
    var scrolled = Array.from(board.querySelectorAll(".tm-scroll"), function (one) { return one.scrollLeft; });
    board.replaceWith(fresh);
    board = fresh;
    seconds = Number(board.dataset.refresh || 0);
    board.querySelectorAll(".tm-scroll").forEach(function (one, at) { one.scrollLeft = scrolled[at] || 0; });
  }

  function old() {
    var dot = board.querySelector(".status-dot");
    if (dot) { dot.className = "status-dot status-dot-error"; }
  }

  function look() {
    if (isInUse()) { again(); return; }
    fetch(window.location.href, { credentials: "same-origin", cache: "no-store" })
      .then(function (answer) { return answer.text(); })
      .then(put, old)
      .then(again);
  }

  again();

  document.querySelectorAll("form[data-once]").forEach(function (form) {
    form.addEventListener("submit", function (event) {
      if (form.dataset.sent) { event.preventDefault(); return; }
      form.dataset.sent = "yes";
      form.querySelectorAll("button").forEach(function (one) { one.setAttribute("aria-disabled", "true"); });
    });
  });
  window.addEventListener("pageshow", function () {
    document.querySelectorAll("form[data-once]").forEach(function (form) { delete form.dataset.sent; });
  });
}());
