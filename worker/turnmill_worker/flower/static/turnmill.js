// Brings what changes on a page, and keeps a form from being sent twice. Everything works without.
(function () {
  "use strict";

  var board = document.getElementById("board");
  var seconds = board ? Number(board.dataset.refresh || 0) : 0;
  // An answer that takes longer than so many milliseconds is none: a proxy may never give up.
  var PATIENCE = 15000;

  // What stands beside the board and is of the same moment: what may be done, and when that was.
  function beside(page, board) {
    return Array.from(page.querySelectorAll(".tm .tm-acts, .tm .refresh-status"))
      .filter(function (one) { return !board.contains(one); });
  }

  function isInUse() {
    var selection = window.getSelection();
    var active = document.activeElement;
    return document.hidden || board.contains(active) || active.closest(".tm-acts") !== null ||
      (selection !== null && !selection.isCollapsed && board.contains(selection.anchorNode));
  }

  function again() {
    if (seconds > 0) { window.setTimeout(look, seconds * 1000); }
  }

  function put(text) {
    var page = new DOMParser().parseFromString(text, "text/html");
    var fresh = page.getElementById("board");
    if (fresh === null) { old(); return; }
    if (isInUse()) { return; }
    var scrolled = Array.from(board.querySelectorAll(".tm-scroll"), function (one) { return one.scrollLeft; });
    var before = beside(document, board), now = beside(page, fresh);
    board.replaceWith(fresh);
    board = fresh;
    seconds = Number(board.dataset.refresh || 0);
    board.querySelectorAll(".tm-scroll").forEach(function (one, at) { one.scrollLeft = scrolled[at] || 0; });
    if (now.length !== before.length) { old(); return; }
    before.forEach(function (one, at) { one.replaceWith(now[at]); });
  }

  // The page stays as it was: it says of when it is, and that this is not now.
  function old() {
    document.querySelectorAll(".tm .refresh-status").forEach(function (one) {
      one.querySelector(".status-dot").className = "status-dot status-dot-error";
      if (one.dataset.old) { return; }
      one.dataset.old = "yes";
      one.lastElementChild.append("; nothing newer is to be had");
    });
  }

  function look() {
    if (isInUse()) { again(); return; }
    var giveUp = new AbortController();
    window.setTimeout(function () { giveUp.abort(); }, PATIENCE);
    fetch(window.location.href, { credentials: "same-origin", cache: "no-store", signal: giveUp.signal })
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
