import { randomBytes } from 'node:crypto';
import { connect } from 'node:http2';
import { buffer } from 'node:stream/consumers';

// Arguments: a URL, and how many requests to have open at once over one connection. Tells how many bodies came back.

const BODY_BYTES = 50_000;

const session = connect(process.argv[2] ?? '');
const same = await Promise.all(
  Array.from({ length: Number(process.argv[3]) }, async () => {
    const body = randomBytes(BODY_BYTES);
    const request = session.request({ ':method': 'POST', ':path': '/' });
    request.end(body);
    return (await buffer(request)).equals(body);
  }),
);
session.close();
console.log(`${same.filter(Boolean).length} bodies came back to their requests`);
