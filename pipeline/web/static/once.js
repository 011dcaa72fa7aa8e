// A form is sent once: of a double click the second would call off the answer to the first, and get another one.

const sent = new Set();

document.addEventListener("submit", (event) => {
  if (sent.has(event.target)) event.preventDefault();
  else if (!event.defaultPrevented) sent.add(event.target);
});
window.addEventListener("pageshow", () => sent.clear()); // the reader has come back to it
