// tus-js-client under Node: uploads a file, prints its address as soon as it is known, and again when it is done.
// Arguments: endpoint, path, size of a chunk in bytes, address of an upload to go on with (or nothing).
import { createReadStream, statSync } from "node:fs";
import tus from "tus-js-client";

const [endpoint, path, chunkSize, uploadUrl] = process.argv.slice(2);
const upload = new tus.Upload(createReadStream(path), {
  endpoint,
  uploadUrl: uploadUrl || null,
  uploadSize: statSync(path).size,
  chunkSize: Number(chunkSize),
  retryDelays: Array(240).fill(250),
  onUploadUrlAvailable: () => console.log(`at ${upload.url}`),
  onProgress: (sent) => sent && console.error(`sent ${sent}`),
  onSuccess: () => console.log(`done ${upload.url}`),
  onError: (error) => {
    console.error(error);
    process.exit(1);
  },
});
upload.start();
