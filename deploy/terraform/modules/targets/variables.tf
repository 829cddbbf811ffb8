variable "name" {
  type        = string
  description = "Name of the group and prefix of the rest"
}

variable "subnet_ids" {
  type = list(string)
}

variable "security_group_id" {
  type = string
}

variable "target_group_arn" {
  type = string
}

variable "port" {
  type        = string
  description = "The tunnel's port: 4789 for VXLAN, 6081 for GENEVE"
}

variable "source_cidr" {
  type = string
}

variable "balancer_namespace" {
  type = string
}

variable "balancer_dimensions" {
  type = map(string)
}

variable "package_bucket" {
  type = string
}

variable "package_key" {
  type = string
}

variable "package_sha256" {
  type = string
}

variable "instance_type" {
  type = string
}

variable "min_size" {
  type = number
}

variable "max_size" {
  type = number
}

variable "network_in_target" {
  type = number
}

variable "capture_days" {
  type = number
}

variable "alarm_topic_arns" {
  type = list(string)
}
