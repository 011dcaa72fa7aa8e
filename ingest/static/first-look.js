// What a file is by its first bytes, so that a wrong one is said to be wrong before it is sent; the service
// looks anew, and closer. Returns "nifti", "zip" or "dicom", or throws an Error with a sentence for the reader.

const HEAD_BYTES = 4096;
const NIFTI_1_HEADER_BYTES = 348;
const NIFTI_2_HEADER_BYTES = 540;

export async function firstLook(file, maxBytes) {
  if (!file.size) throw new Error("This file is empty.");
  if (file.size > maxBytes) throw new Error(`This file is larger than the ${Math.floor(maxBytes / 1024 ** 2)} MiB that are accepted here.`);
  const head = await firstBytes(file);
  const text = (start, length) => String.fromCharCode(...head.subarray(start, start + length));
  if (text(0, 4) === "PK\x03\x04") return "zip";
  if (text(128, 4) === "DICM") return "dicom";
  const isGzip = head[0] === 0x1f && head[1] === 0x8b;
  const header = isGzip ? await inflated(file) : head;
  if (header && looksLikeNifti(header)) return "nifti";
  throw new Error("This is neither a NIfTI volume (.nii, .nii.gz) nor DICOM (files, folder or zip). Nothing was sent.");
}

async function firstBytes(file) {
  return new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
}

async function inflated(file) {
  const reader = file.stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  try {
    let head = new Uint8Array(0);
    while (head.length < NIFTI_1_HEADER_BYTES) {
      const { done, value } = await reader.read();
      if (done) return head;
      head = new Uint8Array([...head, ...value.subarray(0, HEAD_BYTES)]);
    }
    return head;
  } catch {
    throw new Error("This file is compressed, but damaged: it does not unpack. Copy it anew. Nothing was sent.");
  } finally {
    reader.cancel().catch(() => {});
  }
}

function looksLikeNifti(header) {
  if (header.length < NIFTI_1_HEADER_BYTES) return false;
  const view = new DataView(header.buffer, header.byteOffset);
  const sizes = [NIFTI_1_HEADER_BYTES, NIFTI_2_HEADER_BYTES];
  return sizes.includes(view.getInt32(0, true)) || sizes.includes(view.getInt32(0, false));
}
