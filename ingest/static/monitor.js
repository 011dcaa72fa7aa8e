// Renews the parts of the monitor page every two seconds while it is looked at, and sends its forms in place.
import { renewParts } from "/static/parts.js";

const EVERY_MS = 2000;
const live = document.getElementById("live");
const said = document.getElementById("said");
let timer = 0;

async function renew() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    await renewParts(() => {});
    live.textContent = `Live, renewed every ${EVERY_MS / 1000} seconds`;
    live.className = "dim";
  } catch {
    live.textContent = "The service does not answer; trying again";
    live.className = "bad";
  }
  timer = setTimeout(renew, EVERY_MS);
}

function say(text, good) {
  said.hidden = false;
  said.textContent = text;
  said.classList.toggle("fine", good);
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.api) return;
  event.preventDefault();
  if (form.dataset.confirm && !confirm(form.dataset.confirm)) return;
  try {
    const answer = await fetch(form.dataset.api, { method: "POST" });
    const reply = await answer.json();
    const refused = (reply.outcomes ?? []).filter((outcome) => outcome.error);
    if (refused.length) say(`${refused.length} of ${reply.outcomes.length} are not back. ${refused[0].error}`, false);
    else say(answer.ok ? form.dataset.said : reply.detail, answer.ok);
  } catch {
    say("The service does not answer. Try again in a moment.", false);
  }
  await renew();
});

history.replaceState(null, "", location.pathname); // what a form has done is not said again by a reload
document.addEventListener("visibilitychange", renew);
renew();
