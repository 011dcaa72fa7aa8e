// Papaya's own loader hangs without a word on an error page or a cut-off file, so volumes are fetched and
// checked here, and Papaya is given plain buffers.

const HEADER_BYTES = 348; // of NIfTI-1; also the value of its first field

export class VolumeError extends Error {}

/**
 * Fetch all volumes at once.
 * @param {{name: string, label: string, url: string}[]} volumes
 * @param {(fraction: number) => void} onProgress called with the fraction of bytes received, 0 to 1
 * @returns {Promise<ArrayBuffer[]>} whole, unpacked NIfTI-1 files
 * @throws {VolumeError} with a sentence for the reader
 */
export async function fetchVolumes(volumes, onProgress) {
  const progress = volumes.map(() => ({ received: 0, expected: 0 }));
  const report = () => {
    const sum = (key) => progress.reduce((total, part) => total + part[key], 0);
    if (progress.every((part) => part.expected)) onProgress(sum("received") / sum("expected"));
  };
  return Promise.all(volumes.map((volume, index) => fetchVolume(volume, progress[index], report)));
}

async function fetchVolume({ label, url }, progress, report) {
  const answer = await request(label, url);
  progress.expected = Number(answer.headers.get("Content-Length"));
  const count = new TransformStream({
    transform(chunk, controller) {
      progress.received += chunk.byteLength;
      report();
      controller.enqueue(chunk);
    },
  });
  const bytes = answer.body.pipeThrough(count).pipeThrough(new DecompressionStream("gzip"));
  let buffer;
  try {
    buffer = await new Response(bytes).arrayBuffer();
  } catch (error) {
    throw new VolumeError(`${label} arrived incomplete or damaged. Reload the page to fetch it again.`, { cause: error });
  }
  check(label, buffer);
  return buffer;
}

async function request(label, url) {
  let answer;
  try {
    answer = await fetch(url, { redirect: "error", headers: { Accept: "application/octet-stream" } });
  } catch (error) {
    throw new VolumeError("The service cannot be reached. Check the connection and reload the page.", { cause: error });
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new VolumeError(problem.detail ?? `${label} cannot be fetched: the service answered ${answer.status}. Reload the page.`);
}

function check(label, buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < HEADER_BYTES || view.getInt32(0, true) !== HEADER_BYTES) {
    throw new VolumeError(`${label} was expected as little-endian NIfTI-1, and is something else.`);
  }
  const dimensions = view.getInt16(40, true);
  let voxels = 1;
  for (let axis = 1; axis <= dimensions; axis += 1) voxels *= view.getInt16(40 + 2 * axis, true);
  const expected = view.getFloat32(108, true) + (voxels * view.getInt16(72, true)) / 8;
  if (buffer.byteLength < expected) {
    throw new VolumeError(`${label} was expected to hold ${expected} bytes, and holds ${buffer.byteLength}. Reload the page.`);
  }
}
