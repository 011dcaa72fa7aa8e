// The upload page: files are checked, sent two at a time, and become a job together.

import { firstLook } from "./first-look.js";
import { resumable } from "./resumable.js";
import { localStorage } from "./storage.js";

const AT_ONCE = 2;
const EMAIL_KEY = "corestream-email";
const form = document.getElementById("form");
const { maxBytes, maxFiles } = Object.fromEntries(Object.entries(form.dataset).map(([key, value]) => [key, Number(value)]));
const rows = document.getElementById("rows");
const note = document.getElementById("note");
const items = [];
let submitting = false; // as soon as all are sent
let posting = false;

const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const timeLeft = (s) => (s < 60 ? `about ${Math.max(1, Math.round(s))} s left` : `about ${Math.round(s / 60)} min left`);
const sending = () => items.some((item) => item.state === "waiting" || item.state === "sending");

function tell(sentence) {
  if (note.textContent !== sentence) note.textContent = sentence; // a live region: only news is read out
}

/** A scan on its way: one file, or the files of one DICOM series. */
class Item {
  constructor(files, kind) {
    this.files = files;
    this.kind = kind;
    this.total = files.reduce((sum, file) => sum + file.size, 0);
    this.row = document.getElementById("row").content.firstElementChild.cloneNode(true);
    const name = files.length > 1 ? `DICOM series, ${files.length} files` : files[0].name;
    this.part(".name").textContent = name;
    this.part(".weight").textContent = size(this.total);
    this.part("progress").max = this.total;
    this.part("progress").setAttribute("aria-label", `${name}, sent`);
    this.name = name;
    this.part(".retry").setAttribute("aria-label", `Retry ${name}`);
    this.part(".cancel").addEventListener("click", () => this.cancel());
    this.part(".retry").addEventListener("click", () => this.wait());
    rows.append(this.row);
    items.push(this);
  }

  part(selector) { return this.row.querySelector(selector); }

  say(state, sentence, { aloud = true } = {}) {
    this.state = state;
    this.row.dataset.state = state;
    this.part(".said").setAttribute("aria-live", aloud ? "polite" : "off");
    this.part(".said").textContent = sentence;
    this.part(".retry").hidden = state !== "failed" || !this.kind;
    const cancel = state === "waiting" || state === "sending" ? "Cancel" : "Remove";
    this.part(".cancel").textContent = cancel;
    this.part(".cancel").setAttribute("aria-label", `${cancel} ${this.name}`);
    this.part("progress").hidden = !["sending", "sent"].includes(state);
    showForm();
  }

  wait() {
    this.say("waiting", "Waiting for its turn.");
    sendNext();
  }

  async send() {
    this.say("sending", "Starting …");
    const began = performance.now();
    this.urls = [];
    let before = 0;
    let resumedAt = null;
    try {
      for (const file of this.files) {
        this.upload = resumable(file, {
          progress: (bytes) => {
            const done = before + bytes;
            resumedAt ??= done;
            const rate = (done - resumedAt) / (performance.now() - began);
            const left = rate > 0 ? ` · ${timeLeft((this.total - done) / rate / 1000)}` : "";
            this.part("progress").value = done;
            this.say("sending", `${Math.floor((100 * done) / this.total)} % of ${size(this.total)}${left}`, { aloud: false });
          },
          waits: (sentence) => this.say("sending", sentence),
        });
        this.urls.push(await this.upload.send());
        before += file.size;
      }
      this.part("progress").value = this.total;
      this.say("sent", "Sent.");
    } catch (error) {
      if (this.state === "cancelled") return;
      submitting = false; // who pressed Submit meant this one too: nothing is submitted without it unasked
      this.say("failed", error.message);
    }
  }

  cancel() {
    this.state = "cancelled";
    this.upload?.stop();
    this.forget();
    items.splice(items.indexOf(this), 1);
    this.row.remove();
    showForm();
    sendNext();
    if (submitting) submit(); // it may have been the last that was waited for
    document.getElementById("choose").focus();
  }

  forget() {
    for (const file of this.files) resumable(file, {}).forget();
  }
}

async function sendNext() {
  const running = items.filter((item) => item.state === "sending").length;
  for (const item of items.filter((each) => each.state === "waiting").slice(0, AT_ONCE - running)) {
    item.send().then(() => { sendNext(); if (submitting) submit(); });
  }
}

function showForm() {
  const sent = items.filter((item) => item.state === "sent").length;
  const good = items.filter((item) => item.state !== "failed").length;
  const button = document.getElementById("submit");
  button.textContent = submitting ? "Submits when all are sent …" : posting ? "Submitting …" : good > 1 ? `Submit ${good} scans` : "Submit";
  button.disabled = submitting || posting || !good;
  tell(good ? `${sent} of ${good} sent.` : "Choose a scan first.");
}

async function add(files) {
  const slices = [];
  for (const file of files) {
    try {
      const kind = await firstLook(file, maxBytes);
      if (kind === "dicom") slices.push(file);
      else addItem([file], kind);
    } catch (error) {
      new Item([file], null).say("failed", error.message);
    }
  }
  if (slices.length) addItem(slices, "dicom");
}

function addItem(files, kind) {
  const item = new Item(files, kind);
  if (items.filter((each) => each.kind).length > maxFiles) {
    item.kind = null;
    item.say("failed", `A submission has at most ${maxFiles} scans. Submit these first, then the others.`);
  } else {
    item.wait();
  }
}

/** All files below what was dropped: folders are walked through. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((each) => each.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  return (await Promise.all(entries.map(walk))).flat();
}

async function walk(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => { entry.file(resolve, reject); })];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (!some.length) return (await Promise.all(found.map(walk))).flat();
    found.push(...some);
  }
}

async function submit() {
  if (posting) return;
  submitting = true;
  showForm();
  if (sending()) return;
  const sent = items.filter((item) => item.state === "sent");
  submitting = false;
  if (!sent.length) { showForm(); return; }
  posting = true;
  showForm();
  const email = document.getElementById("email").value.trim();
  let answer, told;
  try {
    answer = await fetch("/api/jobs", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ uploads: sent.flatMap((item) => item.urls), ...(email && { email }) }),
    });
    told = await answer.json(); // a proxy's own page of errors is none
  } catch {
    posting = false;
    showForm();
    note.textContent = "The service cannot be reached. Your files are kept there: press Submit again in a moment.";
    return;
  }
  if (answer.ok) {
    remember(email);
    for (const item of items) item.forget();
    window.addEventListener("pageshow", () => location.reload()); // whoever comes back finds an empty form
    const page = new URL(told.page_url);
    location.assign(page.pathname + page.search);
    return;
  }
  posting = false;
  refuse(sent, told);
}

/** Say of each refused scan why; the others stay and can be submitted without it. */
function refuse(sent, problem) {
  for (const error of problem.errors ?? []) {
    const item = sent.find(({ urls }) => urls.some((url) => error.uploads.includes(url.split("/").pop())));
    if (item) {
      item.forget();
      item.kind = null;
      item.say("failed", `${error.title}. ${error.detail}`);
    }
  }
  showForm();
  note.textContent = problem.errors?.length ? "Not submitted: see below. Remove what was refused, or press Submit for the others." : problem.detail;
}

function remember(email) {
  if (document.getElementById("remember").checked) localStorage.setItem(EMAIL_KEY, email);
  else localStorage.removeItem(EMAIL_KEY);
}

function connect() {
  document.getElementById("file").required = false; // it is emptied as soon as files are chosen
  const zone = document.getElementById("zone");
  const over = (event) => { event.preventDefault(); zone.classList.toggle("over", event.type === "dragover"); };
  for (const type of ["dragover", "dragleave"]) zone.addEventListener(type, over);
  zone.addEventListener("drop", async (event) => { over(event); add(await dropped(event.dataTransfer)); });
  for (const id of ["file", "folder"]) {
    const input = document.getElementById(id);
    const take = () => {
      const chosen = [...input.files];
      input.value = "";
      add(chosen);
    };
    input.addEventListener("change", take);
    if (input.files.length) take(); // chosen before this script had come, or before a reload
  }
  document.getElementById("choose").addEventListener("click", () => document.getElementById("file").click());
  document.getElementById("choose-folder").addEventListener("click", () => document.getElementById("folder").click());
  document.getElementById("sample")?.addEventListener("click", async ({ target }) => {
    const answer = await fetch(target.dataset.from).catch(() => null);
    if (answer?.ok) add([new File([await answer.blob()], "sample.nii.gz", { lastModified: 0 })]);
    else note.textContent = "The sample cannot be had. Choose a scan of your own, or try again in a moment.";
  });
  const email = document.getElementById("email");
  const remembered = localStorage.getItem(EMAIL_KEY);
  if (remembered) {
    email.value ||= remembered;
    document.getElementById("remember").checked = true;
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  window.addEventListener("beforeunload", (event) => { if (sending()) event.preventDefault(); });
  document.documentElement.dataset.upload = "ready";
  showForm();
}

if (window.tus) connect(); // else the plain form is all there is
