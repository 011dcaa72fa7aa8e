// The viewer page: fetches both volumes, hands them to Papaya, connects the page's controls to it.
// State for scripts and tests: html[data-viewer="ready"|"error"], html[data-volumes].

import { VolumeError, fetchVolumes } from "./volumes.js";

/* global papaya, papayaContainers */
const settings = JSON.parse(document.getElementById("settings").textContent);
const state = document.documentElement.dataset;
const element = (id) => document.getElementById(id);

function fail(sentence) {
  state.viewer = "error";
  element("message").textContent = sentence;
}

function drawLegend(colors) {
  const canvas = element("legend");
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x += 1) {
    context.fillStyle = `rgb(${colors.lookupRed(x)} ${colors.lookupGreen(x)} ${colors.lookupBlue(x)})`;
    context.fillRect(x, 0, 1, 1);
  }
}

function connectControls(viewer) {
  const map = viewer.screenVolumes[1];
  const redraw = () => viewer.drawViewer(true, false);
  const show = () => {
    map.hidden = !element("show").checked;
    redraw();
  };
  element("show").addEventListener("change", show);
  show();
  element("threshold").addEventListener("input", (event) => {
    map.setScreenRange(Number(event.target.value), settings.mapRange[1]);
    element("threshold-shown").value = event.target.value;
    redraw();
  });
  element("opacity").addEventListener("input", (event) => {
    map.alpha = Number(event.target.value) / 100;
    element("opacity-shown").value = `${event.target.value} %`;
    redraw();
  });
  element("peak").addEventListener("click", () => {
    viewer.gotoWorldCoordinate(new papaya.core.Coordinate(...settings.peakMm));
  });
  element("swap").addEventListener("click", () => viewer.rotateViews());
  element("controls").disabled = false;
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
  drawLegend(viewer.screenVolumes[1].colorTable);
  connectControls(viewer);
  shareKeys(viewer);
  state.volumes = viewer.screenVolumes.length;
  state.viewer = "ready";
}

function open(buffers) {
  settings.volumes.forEach((volume, index) => { window[volume.name] = buffers[index]; });
  const drawError = papaya.viewer.Display.prototype.drawError;
  papaya.viewer.Display.prototype.drawError = function drawErrorInWords(message) {
    fail(`The viewer cannot show this result: ${message}`);
    return drawError.call(this, message);
  };
  const [windowLow, windowHigh] = settings.windowHu;
  const [mapLow, mapHigh] = settings.mapRange;
  papaya.Container.addViewer("host", {
    binaryImages: settings.volumes.map((volume) => volume.name),
    scan: { min: windowLow, max: windowHigh },
    saliency: { lut: "Gold", alpha: settings.mapOpacity, min: mapLow, max: mapHigh },
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

try {
  const progress = element("progress");
  const buffers = await fetchVolumes(settings.volumes, (fraction) => { progress.value = fraction; });
  element("message").textContent = "Drawing …";
  open(buffers);
} catch (error) {
  if (!(error instanceof VolumeError)) console.error(error);
  fail(error instanceof VolumeError ? error.message : "The viewer could not start. Reload the page; the result page has the files.");
}
