// A page that changes while it is read: what has changed of it is replaced, and the rest stays as its reader has
// it, with what is open, chosen and half written.

const served = new WeakMap(); // as they came; pages' scripts write in them
for (const part of document.querySelectorAll("[data-part]")) served.set(part, part.outerHTML);

/**
 * Fetch the page anew and replace every element with a `data-part` that is not what it was.
 * @param {(part: Element) => void} prepare what the page's script makes of a part that has come
 * @returns {Promise<Element[]>} the parts that have come
 * @throws {Error} where the service cannot be reached, or does not answer as it should
 */
export async function renewParts(prepare) {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (answer.status >= 400 && answer.status < 500) location.reload(); // the service says in words what became of it
  if (!answer.ok) throw new Error(`Expected this page, received status ${answer.status}.`);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (names(page) !== names(document)) { // it has become another page: for who is not logged in any more, say
    location.reload();
    return [];
  }
  const come = [];
  for (const part of page.querySelectorAll("[data-part]")) {
    const shown = document.querySelector(`[data-part="${part.dataset.part}"]`);
    if (served.get(shown) === part.outerHTML) continue;
    served.set(part, part.outerHTML);
    prepare(part);
    replace(shown, part);
    come.push(part);
  }
  document.title = page.title;
  return come;
}

/**
 * Have a page that the browser kept, and shows again as the reader goes back to it, brought up to date: what it
 * tells of may be deleted by now.
 * @param {() => Promise<void>} renew
 */
export function whenShownAgain(renew) {
  window.addEventListener("pageshow", ({ persisted }) => { if (persisted) renew().catch(() => {}); });
}

function names(page) {
  return Array.from(page.querySelectorAll("[data-part]"), (part) => part.dataset.part).join();
}

/** Put a part in the place of another; what was open or had the focus there is open and has it here. */
function replace(shown, part) {
  const alike = (old) => [...part.querySelectorAll(old.localName)].find((one) => one.id === old.id && one.textContent === old.textContent);
  for (const summary of shown.querySelectorAll("details[open] > summary")) alike(summary)?.parentElement.setAttribute("open", "");
  const focused = document.activeElement;
  const next = shown.contains(focused) && alike(focused);
  shown.replaceWith(part);
  if (next) next.focus();
}
