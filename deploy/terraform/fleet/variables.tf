variable "name" {
  type        = string
  default     = "mirror"
  description = "Name of the group and prefix of the rest"
}

variable "vpc_id" {
  type = string
}

variable "subnet_ids" {
  type        = list(string)
  description = "Subnets of the targets, with a route to S3 and Systems Manager"
}

variable "source_cidr" {
  type        = string
  default     = "10.0.0.0/8"
  description = "Where mirrored interfaces have their addresses"
}

variable "source_interface_ids" {
  type        = set(string)
  description = "Interfaces to mirror, such as eni-0123456789abcdef0"
}

variable "package_bucket" {
  type        = string
  description = "The S3 bucket to which the package was uploaded"
}

variable "package_key" {
  type    = string
  default = "mirror.rpm"
}

variable "package_sha256" {
  type = string
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.package_sha256))
    error_message = "64 hexadecimal digits, as sha256sum prints them."
  }
}

variable "instance_type" {
  type    = string
  default = "c5n.large"
}

variable "min_size" {
  type    = number
  default = 2
}

variable "max_size" {
  type    = number
  default = 6
}

variable "network_in_target" {
  type        = number
  default     = 13500000000
  description = "Bytes a minute and instance to scale to, 60 % of the baseline of 3 Gbit/s of a c5n.large"
}

variable "packet_length" {
  type        = number
  default     = 3462
  description = "Bytes mirrored of each packet, at most 36 less than the targets' MTU"
  validation {
    condition     = var.packet_length >= 35 && var.packet_length <= 3462
    error_message = "From 35 to 3462."
  }
}

variable "session_number" {
  type    = number
  default = 1
  validation {
    condition     = var.session_number >= 1 && var.session_number <= 32766
    error_message = "From 1 to 32766."
  }
}

variable "capture_days" {
  type        = number
  default     = 30
  description = "Captures are deleted after so many days"
}

variable "alarm_topic_arns" {
  type        = list(string)
  default     = []
  description = "SNS topics for alarms"
}
