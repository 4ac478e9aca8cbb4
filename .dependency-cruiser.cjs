/** What each folder of src may import; the table is the one of docs/ARCHITECTURE.md. */
const allowed = {
  runtime: [],
  protocol: ['runtime'],
  identity: ['runtime'],
  policy: ['runtime'],
  audit: ['runtime'],
  control: ['identity', 'audit', 'runtime'],
  relay: ['protocol', 'identity', 'control', 'audit', 'runtime'],
  agent: ['protocol', 'identity', 'policy', 'audit', 'runtime'],
  gateway: ['protocol', 'identity', 'runtime'],
};
const folders = Object.keys(allowed);

const folderRules = folders.map((folder) => ({
  name: `${folder}-imports`,
  comment: `src/${folder} may import only: ${allowed[folder].join(', ') || 'nothing of ours'}`,
  severity: 'error',
  from: { path: `^src/${folder}/` },
  to: { path: '^src/', pathNot: `^src/(${[folder, ...allowed[folder]].join('|')})/` },
}));

const entranceRules = folders.map((folder) => ({
  name: `${folder}-entrance`,
  comment: `src/${folder} is entered through its index.ts`,
  severity: 'error',
  from: { path: '^src/', pathNot: `^src/${folder}/` },
  to: { path: `^src/${folder}/`, pathNot: `^src/${folder}/index\\.ts$` },
}));

/** One folder (or file) alone may use a package. */
const only = (name, packages, path) => ({
  name: `only-${name}`,
  comment: `${packages} only in ${path}`,
  severity: 'error',
  from: { path: '^src/', pathNot: path },
  to: { path: `node_modules/(${packages})/` },
});

module.exports = {
  forbidden: [
    ...folderRules,
    ...entranceRules,
    only('pg', 'pg', '^src/(audit|control)/'),
    only('opa-wasm', '@open-policy-agent/opa-wasm', '^src/policy/engine/wasm\\.ts$'),
    only('jsonwebtoken', 'jsonwebtoken', '^src/(identity/|policy/bundle/signature\\.ts$)'),
    only('ws', 'ws', '^src/protocol/'),
    only('express', 'express|helmet', '^src/control/'),
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-test-in-src', severity: 'error', from: { path: '^src/' }, to: { path: '^(test|bench)/' } },
    { name: 'not-to-unresolvable', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
