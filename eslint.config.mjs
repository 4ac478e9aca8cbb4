import tseslint from 'typescript-eslint';

/** Clock, randomness, environment and process end have one wrapper each; everything else goes through those. */
const wrapped = [
  { object: 'Date', property: 'now', message: 'use the Clock of src/runtime' },
  { object: 'Math', property: 'random', message: 'use the randomness of src/runtime' },
  { object: 'process', property: 'exit', message: 'use exitProcess of src/runtime' },
  { object: 'process', property: 'env', message: 'read configuration through src/runtime' },
];

export default tseslint.config(
  { ignores: ['node_modules', 'dist', 'dist-test', '.tools', '.cache', 'coverage', '**/*.mjs', '**/*.cjs'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/no-unnecessary-condition': ['error', { allowConstantLoopConditions: true }],
      'no-restricted-properties': ['error', ...wrapped],
      'no-restricted-syntax': [
        'error',
        { selector: 'ExportDefaultDeclaration', message: 'no default exports' },
        { selector: 'TSInterfaceDeclaration[id.name=/^I[A-Z]/]', message: 'no I prefix' },
      ],
      'no-empty': ['error', { allowEmptyCatch: false }],
      eqeqeq: 'error',
    },
  },
  {
    files: [
      'src/runtime/clock.ts',
      'src/runtime/random.ts',
      'src/runtime/environment.ts',
      'src/runtime/exit.ts',
    ],
    rules: { 'no-restricted-properties': 'off' },
  },
  {
    files: ['test/**', 'bench/**', 'tools/**'],
    rules: {
      'no-restricted-properties': 'off',
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', package: 'node:test', name: ['test', 'it', 'describe', 'suite'] },
          ],
        },
      ],
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/require-await': 'off',
    },
  },
);
