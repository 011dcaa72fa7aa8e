// Instants are written in UTC for readers without script; here they become the reader's own.
const long = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "short" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

/** Rewrite every <time> below a node; those marked data-clock as time of day alone. */
export function localTimes(root) {
  for (const time of root.querySelectorAll("time")) {
    time.title = time.textContent;
    time.textContent = (time.hasAttribute("data-clock") ? clock : long).format(new Date(time.dateTime));
  }
}

localTimes(document);
