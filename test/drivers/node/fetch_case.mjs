// fetch_case.mjs URL: fetch of Node, whose authorities are told by NODE_EXTRA_CA_CERTS
import { say } from './lines.mjs';

for (let count = 0; count < 3; count++) {
  const answer = await fetch(process.argv[2]);
  say(answer.status, (await answer.text()).trim());
}
