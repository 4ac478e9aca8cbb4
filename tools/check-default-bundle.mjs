// The committed default bundle must be what its sources give, byte for byte.
//   node tools/check-default-bundle.mjs [--write]     --write: replace the committed one
import { readFileSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { register } from 'tsx/esm/api';

register();
const { buildBundle, DEFAULT_BUNDLE_FILE, findOpa, SHIPPED_POLICIES } = await import(
  '../src/policy/index.ts'
);

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');
const { bytes } = await buildBundle(SHIPPED_POLICIES, undefined, { opa: await findOpa() });
if (process.argv.includes('--write')) {
  writeFileSync(DEFAULT_BUNDLE_FILE, bytes);
  console.log(`${DEFAULT_BUNDLE_FILE}: ${bytes.length} bytes, sha256 ${sha256(bytes)}`);
} else {
  let committed = Buffer.alloc(0);
  try {
    committed = readFileSync(DEFAULT_BUNDLE_FILE);
  } catch (error) {
    console.error(`check-default-bundle: ${error.message}`);
  }
  if (!committed.equals(bytes)) {
    console.error(
      `check-default-bundle: ${DEFAULT_BUNDLE_FILE} (sha256 ${sha256(committed)}) is not what its sources give ` +
        `(sha256 ${sha256(bytes)}); run 'node tools/check-default-bundle.mjs --write' and commit it`,
    );
    process.exit(1);
  }
  console.log(`default bundle is what its sources give: sha256 ${sha256(bytes)}`);
}
