// The job's page, live: whenever something happens to the job, its part of the page is fetched anew.
// State for tests: html[data-live="connecting"|"open"|"lost"|"ended"].

import { localTimes } from "/static/times.js";

const live = document.getElementById("live");
const note = document.getElementById("note");
const state = document.documentElement.dataset;
let fetching = null;
let again = false;

function say(sentence) {
  if (note.textContent !== sentence) note.textContent = sentence; // a live region: only news is read out
}

async function fetchPart() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.status === 410) location.reload(); // the service says in words what became of it
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  live.replaceChildren(...fresh.getElementById("live").childNodes);
  document.title = fresh.title;
  localTimes(live);
  say(live.querySelector("[data-summary]").textContent);
}

/** Fetch the part once for however many events came meanwhile. */
async function renew() {
  again = true;
  if (fetching) return fetching;
  fetching = (async () => {
    while (again) {
      again = false;
      await fetchPart().catch(() => {}); // the connection is lost: the next event brings it up to date
    }
    fetching = null;
  })();
  return fetching;
}

if (live.dataset.events) {
  state.live = "connecting";
  const source = new EventSource(live.dataset.events);
  source.addEventListener("hello", () => {
    if (state.live === "lost") renew();
    state.live = "open";
    say(live.querySelector("[data-summary]").textContent);
  });
  source.addEventListener("moment", renew);
  source.addEventListener("place", renew);
  source.addEventListener("end", async () => {
    source.close();
    await renew();
    state.live = "ended";
  });
  source.addEventListener("error", () => {
    state.live = "lost";
    if (source.readyState === EventSource.CLOSED) renew();
    else say("The connection is lost; trying again. Your scan goes on meanwhile.");
  });
}
