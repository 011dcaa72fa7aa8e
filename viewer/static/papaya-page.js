// The viewer page: fetches scan and map, hands them to Papaya, connects the page's controls to it.
// State for scripts and tests: html[data-viewer="ready"|"error"], html[data-volumes].

import { renewParts, whenShownAgain } from "/static/parts.js";
import { connectControls } from "./papaya-controls.js";
import { VolumeError, fetchVolumes } from "./volumes.js";

/* global papaya, papayaContainers */
const settings = JSON.parse(document.getElementById("settings").textContent);
const state = document.documentElement.dataset;
const element = (id) => document.getElementById(id);

function fail(sentence) {
  state.viewer = "error";
  element("message").textContent = sentence;
}

// Papaya takes keys from the whole document, and only while the pointer is over its picture. Here they are its
// own where its picture has the focus, and everybody else's elsewhere.
function shareKeys(viewer) {
  const stage = element("stage");
  const share = (event) => {
    if (stage.contains(event.target)) papaya.Container.papayaLastHoveredViewer = viewer;
    else if (event.target !== document.body) event.stopPropagation();
  };
  for (const type of ["keydown", "keyup"]) window.addEventListener(type, share, { capture: true });
}

function onLoaded() {
  for (const volume of settings.volumes) delete window[volume.name];
  const { viewer } = papayaContainers[0];
  viewer.canvas.setAttribute("role", "img");
  viewer.canvas.setAttribute("aria-label", document.querySelector(".finding").textContent.trim());
  connectControls(papayaContainers[0], settings, addMap);
  shareKeys(viewer);
  state.volumes = viewer.screenVolumes.length;
  state.viewer = "ready";
}

/** What Papaya is told of a map, by the name of its buffer. */
function mapParameters({ range }) {
  return { lut: settings.colors.name, alpha: settings.mapOpacity, min: range[0], max: range[1] };
}

/** Fetch one more map and lay it over the scan; it becomes the last of `screenVolumes`. */
async function addMap(map) {
  const [buffer] = await fetchVolumes([map], () => {});
  const container = papayaContainers[0];
  await new Promise((resolve) => {
    window[map.name] = buffer;
    container.params[map.name] = { ...mapParameters(map), loadingComplete: resolve };
    container.viewer.loadOverlay([map.name], false, false, true);
  });
  delete window[map.name];
  state.volumes = container.viewer.screenVolumes.length;
}

function open(buffers) {
  settings.volumes.forEach((volume, index) => { window[volume.name] = buffers[index]; });
  const drawError = papaya.viewer.Display.prototype.drawError;
  papaya.viewer.Display.prototype.drawError = function drawErrorInWords(message) {
    fail(`The viewer cannot show this result: ${message}`);
    return drawError.call(this, message);
  };
  papaya.viewer.ColorTable.addCustomLUT(settings.colors);
  const [scan, map] = settings.volumes;
  papaya.Container.addViewer("host", {
    binaryImages: settings.volumes.map((volume) => volume.name),
    [scan.name]: { min: scan.range[0], max: scan.range[1] },
    [map.name]: mapParameters(map),
    worldSpace: true, // else an overlay on another grid is misplaced
    ...(settings.peakMm && { coordinate: settings.peakMm }),
    kioskMode: true,
    noNewFiles: true,
    radiological: true,
    showOrientation: true,
    showControls: false, // the page has its own, which assistive technology can name
    fullScreenPadding: false,
    orthogonalTall: matchMedia("(max-width: 40rem)").matches,
    loadingComplete: onLoaded,
  });
}

whenShownAgain(renewParts); // of which it has none: what is gone is said all the same

try {
  const progress = element("progress");
  const buffers = await fetchVolumes(settings.volumes, (fraction) => { progress.value = fraction; });
  element("message").textContent = "Drawing …";
  open(buffers);
} catch (error) {
  if (!(error instanceof VolumeError)) console.error(error);
  fail(error instanceof VolumeError ? error.message : "The viewer could not start. Reload the page; the result page has the files.");
}
