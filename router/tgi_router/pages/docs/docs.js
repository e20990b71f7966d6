SwaggerUIBundle({
  url: new URL("api-doc/openapi.json", document.baseURI).href,
  domNode: document.getElementById("document"),
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  // It would send the document to a site of its makers.
  validatorUrl: null,
});
