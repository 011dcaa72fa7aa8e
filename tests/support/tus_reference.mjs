// The reference server of tus on a free port of 127.0.0.1: prints the port, keeps uploads in the folder it is given.
import { createServer } from "node:http";
import { FileStore } from "@tus/file-store";
import { Server } from "@tus/server";

const tus = new Server({
  path: "/api/uploads",
  maxSize: 500 * 1024 * 1024,
  datastore: new FileStore({ directory: process.argv[2], expirationPeriodInMilliseconds: 86400000 }),
});
const http = createServer((request, answer) => tus.handle(request, answer));
http.listen(0, "127.0.0.1", () => console.log(http.address().port));
