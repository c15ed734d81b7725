{{/* Names, labels, and what every pod has. */}}
{{- define "buslane.labels" -}}
app.kubernetes.io/name: buslane
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "buslane.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "buslane.pod" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "buslane.container" -}}
image: {{ include "buslane.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
# Alive looks at nothing but the process; ready is false while something that it needs is missing.
startupProbe:
  httpGet: { path: /healthz, port: admin }
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: { path: /healthz, port: admin }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: { path: /readyz, port: admin }
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{- define "buslane.volumes" -}}
- name: config
  configMap: { name: {{ .root.Release.Name }}-{{ .role }} }
- name: tls
  secret:
    secretName: {{ .root.Values.tls.secret }}
    defaultMode: 0440
    items:
      - { key: ca.pem, path: ca.pem }
      - { key: {{ .role }}.pem, path: {{ .role }}.pem }
      - { key: {{ .role }}.key, path: {{ .role }}.key }
- name: run
  emptyDir: { medium: Memory, sizeLimit: 16Mi }
{{- end }}

{{- define "buslane.mounts" -}}
- { name: config, mountPath: /etc/buslane, readOnly: true }
- { name: tls, mountPath: /etc/buslane-tls, readOnly: true }
- { name: run, mountPath: /run/buslane }
{{- end }}

{{- define "buslane.common" -}}
[log]
filter = {{ .root.Values.log.filter | quote }}
format = {{ .root.Values.log.format | quote }}

[process]
admin = "0.0.0.0:7480"
admin_token = "/var/lib/buslane/admin.token"

[tls]
ca = "/etc/buslane-tls/ca.pem"
certificate = "/etc/buslane-tls/{{ .role }}.pem"
key = "/etc/buslane-tls/{{ .role }}.key"
{{- end }}
