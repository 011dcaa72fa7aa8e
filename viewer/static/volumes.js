// Papaya's own loader hangs without a word on an error page or a cut-off file, so volumes are fetched and
// checked here, and Papaya is given plain buffers.

const HEADER_BYTES = 348; // of NIfTI-1; also the value of its first field
const MAX_BYTES = 768 * 1024 ** 2; // unpacked: Papaya makes a second copy, and a tab has some 2 GB
const MEBIBYTE = 1024 ** 2;

export class VolumeError extends Error {}

/**
 * Fetch all volumes at once.
 * @param {{label: string, url: string}[]} volumes
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
  const unpacked = answer.body.pipeThrough(count).pipeThrough(new DecompressionStream("gzip"));
  try {
    return await read(label, unpacked.getReader());
  } catch (error) {
    if (error instanceof VolumeError) throw error;
    throw new VolumeError(`${label} arrived incomplete or damaged. Reload the page to fetch it again.`, { cause: error });
  }
}

async function request(label, url) {
  let answer;
  try {
    answer = await fetch(url, { redirect: "error" });
  } catch (error) {
    throw new VolumeError("The service cannot be reached. Check the connection and reload the page.", { cause: error });
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new VolumeError(problem.detail ?? `${label} cannot be fetched: the service answered ${answer.status}. Reload the page.`);
}

/** Read a file whose header says how long it is, into one buffer of that length. */
async function read(label, reader) {
  let head = new Uint8Array(0);
  while (head.byteLength < HEADER_BYTES) {
    const { done, value } = await reader.read();
    if (done) throw new VolumeError(`${label} was expected as NIfTI-1, and ends before its header does.`);
    head = joined(head, value);
  }
  const whole = allocate(label, expectedBytes(label, new DataView(head.buffer)));
  let filled = 0;
  for (let chunk = head; chunk; chunk = (await reader.read()).value) {
    const part = chunk.subarray(0, whole.byteLength - filled); // what follows the voxels is nobody's
    whole.set(part, filled);
    filled += part.byteLength;
  }
  if (filled < whole.byteLength) {
    throw new VolumeError(`${label} was expected to hold ${whole.byteLength} bytes, and holds ${filled}. Reload the page.`);
  }
  return whole.buffer;
}

function joined(first, second) {
  const both = new Uint8Array(first.byteLength + second.byteLength);
  both.set(first);
  both.set(second, first.byteLength);
  return both;
}

function expectedBytes(label, header) {
  if (header.getInt32(0, true) !== HEADER_BYTES) {
    throw new VolumeError(`${label} was expected as little-endian NIfTI-1, and is something else.`);
  }
  const dimensions = header.getInt16(40, true);
  let voxels = 1;
  for (let axis = 1; axis <= dimensions; axis += 1) voxels *= header.getInt16(40 + 2 * axis, true);
  return header.getFloat32(108, true) + (voxels * header.getInt16(72, true)) / 8;
}

function allocate(label, bytes) {
  const tooLarge = `${label} is too large for this browser: ${Math.ceil(bytes / MEBIBYTE)} MiB unpacked. `
    + "Download it from the result page and open it in a desktop viewer.";
  if (!(bytes <= MAX_BYTES)) throw new VolumeError(tooLarge);
  try {
    return new Uint8Array(bytes);
  } catch (error) {
    throw new VolumeError(tooLarge, { cause: error });
  }
}
