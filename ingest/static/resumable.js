// One file sent by tus, resumable after a lost line or a reload. No name leaves the browser, and none is kept
// in it: an upload is found again by size, time of change and a hash of some bytes. Volumes of one geometry begin
// alike, and files unpacked together are of one time: so the bytes in the middle count as well as the first.

import { localStorage } from "./storage.js";

/* global tus */
const CHUNK_BYTES = 16 * 1024 ** 2;
const PREFIX = "corestream-upload:";
const SAMPLE_BYTES = 64 * 1024;
const TOO_MANY_REQUESTS = 429; // a folder of thin slices begins more uploads in a minute than an address may
const RETRY_MS = [0, 1000, 2000, 5000, 10000, 20000, 30000];

const LOST = "The connection is lost; trying again. What has arrived is kept.";
const SLOWER = "The service takes no more at once; going on in a moment.";

async function fingerprint(file) {
  const middle = Math.floor(file.size / 2);
  const hashes = await Promise.all([0, middle].map((start) => hashed(file.slice(start, start + SAMPLE_BYTES))));
  return [file.size, file.lastModified, ...hashes].join("-");
}

async function hashed(part) {
  let hash = 0x811c9dc5; // FNV-1a: crypto.subtle is there on secure origins only
  for (const byte of new Uint8Array(await part.arrayBuffer())) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16);
}

/** What tus-js-client asks of a storage of addresses; it holds no more than the address and the size. */
const urlStorage = {
  async findAllUploads() { return []; },
  async findUploadsByFingerprint(print) {
    const found = localStorage.getItem(PREFIX + print);
    return found ? [{ ...JSON.parse(found), urlStorageKey: PREFIX + print }] : [];
  },
  async removeUpload(key) { localStorage.removeItem(key); },
  async addUpload(print, { size, uploadUrl, creationTime }) {
    localStorage.setItem(PREFIX + print, JSON.stringify({ size, uploadUrl, creationTime, metadata: {} }));
    return PREFIX + print;
  },
};

/**
 * Prepare to send a file.
 * @param {File} file
 * @param {{progress: (bytes: number) => void, waits: (sentence: string) => void}} told of what happens
 * @returns {{send: () => Promise<string>, stop: () => void, forget: () => Promise<void>}}
 *   `send` resolves to the upload's address, or rejects with an Error with a sentence for the reader
 */
export function resumable(file, told) {
  let upload;
  async function send() {
    const print = await fingerprint(file);
    return new Promise((resolve, reject) => {
      upload = new tus.Upload(file, {
        endpoint: "/api/uploads",
        chunkSize: CHUNK_BYTES,
        retryDelays: RETRY_MS,
        fingerprint: async () => print,
        urlStorage,
        onProgress: told.progress,
        onShouldRetry(error) {
          const status = error.originalResponse?.getStatus() ?? 0;
          const again = status === 0 || status >= 500 || [409, 423, TOO_MANY_REQUESTS].includes(status);
          if (again) told.waits(status === TOO_MANY_REQUESTS ? SLOWER : LOST);
          return again;
        },
        onError: (error) => reject(new Error(inWords(error))),
        onSuccess: () => resolve(upload.url),
      });
      upload.findPreviousUploads().then((previous) => {
        if (previous.length) upload.resumeFromPreviousUpload(previous[0]);
        upload.start();
      }, reject);
    });
  }
  return {
    send,
    stop: () => upload?.abort(true).catch(() => {}),
    forget: async () => localStorage.removeItem(PREFIX + (await fingerprint(file))),
  };
}

function inWords(error) {
  try {
    return JSON.parse(error.originalResponse.getBody()).detail;
  } catch {
    return "The connection was lost and did not come back. What has arrived is kept: press Retry to go on from there.";
  }
}
