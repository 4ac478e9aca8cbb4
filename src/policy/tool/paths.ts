import { fileURLToPath } from 'node:url';

const root = new URL('../../../', import.meta.url);
const path = (relative: string): string => fileURLToPath(new URL(relative, root));

/** The shipped policy directory: library, default allow-list, schemas, capabilities, vectors. */
export const SHIPPED_POLICIES = path('policies');
/** Allow-lists to start from, each a folder without the library. */
export const EXAMPLE_POLICIES = path('policies/examples');
/** The bundle of the shipped directory, committed, so that nothing but Node is needed to start. */
export const DEFAULT_BUNDLE_FILE = path('policies/dist/default.tar.gz');
/** Where `tools/build-policy-tools.mjs` puts what it builds. */
export const TOOL_DIRECTORY = path('.tools');
