import { renewParts, whenShownAgain } from "/static/parts.js"; // first, for it keeps the page as it came
import { localTimes } from "/static/times.js";
import "/static/once.js";

/** Give every text that is meant to be pasted elsewhere a button for it. */
function addCopyButtons(root) {
  for (const box of root.querySelectorAll(".copyable")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button small";
    button.textContent = "Copy";
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", async () => { button.textContent = await copied(box.firstElementChild); });
    box.append(button);
  }
}

/** Copy a text, or mark it where browsers do not let pages copy: on plain http, or if the reader says so. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    return "Copied";
  } catch {
    getSelection().selectAllChildren(text);
    return "Marked: press Ctrl+C or ⌘C";
  }
}

function prepare(part) {
  localTimes(part);
  addCopyButtons(part);
}

/** Look again for as long as scans are unfinished. */
function lookAgain() {
  const waits = document.querySelector("[data-refresh-s]");
  if (!waits) return;
  setTimeout(async () => {
    const come = await renewParts(prepare).catch(() => []); // the service is away: the next look may find it
    const ended = come.filter((part) => ["done", "failed"].includes(part.dataset.state));
    if (ended.length) document.getElementById("news").textContent = ended.map(inWords).join(" ");
    lookAgain();
  }, waits.dataset.refreshS * 1000);
}

function inWords(scan) {
  const heading = scan.querySelector("h2");
  return `${heading.firstChild.textContent.trim()}: ${heading.querySelector(".badge").textContent}.`;
}

addCopyButtons(document);
lookAgain();
whenShownAgain(() => renewParts(prepare));
