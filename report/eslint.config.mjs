import tseslint from "typescript-eslint";

export default tseslint.config({ ignores: ["dist/", "node_modules/", "tests/", "*.mjs"] }, ...tseslint.configs.strict, {
  rules: {
    // What is read of the data is checked once, where it is decoded.
    "@typescript-eslint/no-non-null-assertion": "off",
    eqeqeq: "error",
    // Text from the data gets into the page as text only.
    "no-restricted-properties": [
      "error",
      { property: "innerHTML" },
      { property: "outerHTML" },
      { property: "insertAdjacentHTML" },
      { property: "dangerouslySetInnerHTML" },
      { object: "document", property: "write" },
    ],
    "no-restricted-syntax": ["error", { selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']", message: "Only text." }],
  },
});
