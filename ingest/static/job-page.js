// The job's page, live: whenever something happens to the job, its part of the page is fetched anew.
// State for tests: html[data-live="connecting"|"open"|"lost"|"resting"|"ended"].

import { renewParts, whenShownAgain } from "/static/parts.js"; // first, for it keeps the page as it came
import { localTimes } from "/static/times.js";
import "/static/once.js";

const COME_BACK_MS = 3000;
const LOOK_MS = 15000;
const live = document.getElementById("live");
const note = document.getElementById("note");
const state = document.documentElement.dataset;
let fetching = null;
let again = false;
let source = null;
let looking = null;

function say(sentence) {
  if (note.textContent !== sentence) note.textContent = sentence; // a live region: only news is read out
}

function summarize() {
  if (state.live !== "lost") say(live.querySelector("[data-summary]").textContent.trim());
}

/** Bring the page up to date once for however many events came meanwhile; tell whether it is. */
async function renew() {
  again = true;
  if (fetching) return fetching;
  fetching = (async () => {
    let upToDate;
    while (again) {
      again = false;
      upToDate = await renewParts(localTimes).then(() => true, () => false);
      summarize();
    }
    fetching = null;
    return upToDate;
  })();
  return fetching;
}

function follow() {
  state.live = state.live === "lost" ? "lost" : "connecting";
  source = new EventSource(live.dataset.events);
  source.addEventListener("hello", () => {
    if (state.live === "lost") renew();
    state.live = "open";
    summarize();
  });
  source.addEventListener("moment", renew);
  source.addEventListener("place", renew);
  source.addEventListener("end", async () => {
    source.close();
    if (await renew()) state.live = "ended";
    else lose();
  });
  source.addEventListener("error", ({ target }) => {
    if (target.readyState === EventSource.CONNECTING) { // it comes back by itself
      tellLost();
      return;
    }
    lose(); // after an answer like a proxy's 502 it does not,
    renew(); // nor where the job is gone, as this learns
  });
}

function tellLost() {
  state.live = "lost";
  say("The connection is lost; trying again. Your scan goes on meanwhile.");
}

function lose() {
  tellLost();
  setTimeout(attend, COME_BACK_MS);
}

/** Look now and then, so that the tab's title tells how it stands. */
async function look() {
  await renew();
  if (!live.querySelector("[data-over]")) return;
  clearInterval(looking);
  state.live = "ended";
}

/** Follow while the page is looked at: browsers have six connections to a host, for all their tabs together. */
function attend() {
  source?.close();
  clearInterval(looking);
  if (state.live === "ended") return;
  if (!document.hidden) {
    follow();
    return;
  }
  state.live = "resting";
  looking = setInterval(look, LOOK_MS);
}

if (live.dataset.events) {
  attend();
  document.addEventListener("visibilitychange", attend);
}
whenShownAgain(renew);
