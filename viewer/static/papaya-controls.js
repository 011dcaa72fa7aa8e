// The controls of the viewer page: native ones, which keyboards and assistive technology know, over Papaya's.

/* global papaya */
const MINUS = "\u2212";
const element = (id) => document.getElementById(id);
const on = (id, type, listener) => element(id).addEventListener(type, listener);
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`).value;

/** Write a number with a true minus sign, no negative zero, and at most one decimal. */
const number = (value) => `${Number(value.toFixed(1)) + 0}`.replace("-", MINUS);

/** Write a value of a map as short as it can be read: 97 %, 1.3e−4. */
function written(value, unit) {
  if (unit) return `${number(value)} ${unit}`;
  return Number(value.toPrecision(2)).toExponential().replaceAll("-", MINUS);
}

/**
 * Connect the page's controls.
 * @param {object} container Papaya's, with scan and first map loaded
 * @param {object} settings of the page
 * @param {(map: object) => Promise<void>} addMap fetches a further map into `screenVolumes`
 */
export function connectControls(container, settings, addMap) {
  const { viewer } = container;
  const maps = new Map([[settings.volumes[1].name, viewer.screenVolumes[1]]]);
  const facts = (name) => settings.maps.find((map) => map.name === name);
  const current = () => [facts(chosen("scale")), maps.get(chosen("scale"))];
  const redraw = () => viewer.drawViewer(true, false);

  function showMap() {
    const [map, shown] = current();
    const lowest = (map.range[1] * element("threshold").value) / 100;
    shown.setScreenRange(lowest, map.range[1]);
    shown.alpha = element("opacity").value / 100;
    for (const volume of maps.values()) volume.hidden = volume !== shown || !element("show").checked;
    element("threshold-shown").value = written(lowest, map.unit);
    element("opacity-shown").value = `${element("opacity").value} %`;
    element("legend-low").textContent = written(lowest, map.unit);
    element("legend-high").textContent = written(map.range[1], map.unit);
    element("scale-note").textContent = map.note;
    redraw();
  }

  async function chooseScale() {
    const [map, loaded] = current();
    const from = element("scale-note");
    if (!loaded) {
      const focused = document.activeElement; // what is disabled cannot keep it
      from.textContent = "Fetching …";
      element("controls").disabled = true;
      try {
        await addMap(map);
        maps.set(map.name, viewer.screenVolumes.at(-1));
      } catch (error) {
        document.querySelector(`input[name=scale][value=${settings.volumes[1].name}]`).checked = true;
        showMap();
        from.textContent = error.message;
        return;
      } finally {
        element("controls").disabled = false;
        focused.focus();
      }
    }
    element("threshold").value = Math.round((100 * map.range[0]) / map.range[1]);
    showMap();
  }

  function showWindow() {
    const [low, high] = JSON.parse(chosen("window"));
    viewer.screenVolumes[0].setScreenRange(low, high);
    redraw();
  }

  function showSides() {
    container.preferences.radiological = element("radiological").checked ? "Yes" : "No";
    viewer.updateScreenSliceTransforms();
    redraw();
  }

  const slice = (up) => {
    const plane = viewer.mainImage.sliceDirection;
    const { DIRECTION_CORONAL, DIRECTION_SAGITTAL } = papaya.viewer.ScreenSlice;
    // Papaya's axial slices count from the top.
    if (plane === DIRECTION_CORONAL) viewer.incrementCoronal(up);
    else if (plane === DIRECTION_SAGITTAL) viewer.incrementSagittal(up);
    else viewer.incrementAxial(!up);
  };

  for (const id of ["show", "threshold", "opacity"]) on(id, "input", showMap);
  for (const input of document.querySelectorAll("input[name=scale]")) input.addEventListener("change", chooseScale);
  for (const input of document.querySelectorAll("input[name=window]")) input.addEventListener("change", showWindow);
  on("radiological", "change", showSides);
  on("peak", "click", () => viewer.gotoWorldCoordinate(new papaya.core.Coordinate(...settings.peakMm)));
  on("swap", "click", () => viewer.rotateViews());
  on("slice-up", "click", () => slice(true));
  on("slice-down", "click", () => slice(false));
  connectFullscreen();
  drawLegend(viewer.screenVolumes[1].colorTable);
  readOut(container, current);
  showMap();
  element("controls").disabled = false;
  element("tools").disabled = false;
}

function drawLegend(colors) {
  const canvas = element("legend");
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x += 1) {
    context.fillStyle = `rgb(${colors.lookupRed(x)} ${colors.lookupGreen(x)} ${colors.lookupBlue(x)})`;
    context.fillRect(x, 0, 1, 1);
  }
}

const times = (matrix, vector) => matrix.slice(0, 3).map((row) => row[0] * vector[0] + row[1] * vector[1] + row[2] * vector[2] + row[3]);

/** Say where the crosshair is and what lies there, whenever Papaya draws. */
function readOut({ display, viewer }, current) {
  const { header, transform } = viewer.volume;
  const { affine } = header.fileFormat.nifti;
  const drawDisplay = display.drawDisplay;
  display.drawDisplay = function drawAndSay(...at) {
    drawDisplay.apply(this, at);
    const { x, y, z } = viewer.currentCoord;
    const { xSize, ySize, zSize } = header.voxelDimensions;
    const near = [(x - header.origin.x) * xSize, (header.origin.y - y) * ySize, (header.origin.z - z) * zSize];
    // Papaya rounds the origin to a voxel, so its millimetres can be half a voxel off: those of the voxel it means are not.
    const mm = times(affine, times(transform.worldMat, near).map(Math.round));
    const value = (shown) => shown.volume.getVoxelAtCoordinate(...near, 0, true);
    const [map, shown] = current();
    element("at").textContent = mm.map((c) => number(c)).join(", ");
    element("hu").textContent = number(value(viewer.screenVolumes[0]));
    element("map-value").textContent = shown ? written(value(shown), map.unit) : "…";
  };
}

function connectFullscreen() {
  const button = element("fullscreen");
  const page = document.querySelector(".viewer");
  button.hidden = !document.fullscreenEnabled;
  button.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : page.requestFullscreen()));
  document.addEventListener("fullscreenchange", () => {
    button.textContent = document.fullscreenElement ? "Leave full screen" : "Full screen";
    papaya.Container.resizePapaya(null, true);
  });
}
