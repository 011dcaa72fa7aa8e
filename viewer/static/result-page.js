import "/static/times.js";

// A text that is meant to be pasted elsewhere gets a button for it; without script it can be marked by hand.
for (const box of document.querySelectorAll(".copyable")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button small";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(box.firstElementChild.textContent);
    button.textContent = "Copied";
  });
  if (navigator.clipboard) box.append(button); // browsers have it on secure origins only
}

// A page with unfinished scans looks again by itself, unless that would take away what somebody is writing.
const refresh = document.querySelector("[data-refresh-s]");
const writing = () => [...document.forms].some((form) => form.matches(":focus-within") || form.note?.value !== form.note?.defaultValue);
if (refresh) setInterval(() => writing() || location.reload(), refresh.dataset.refreshS * 1000);
